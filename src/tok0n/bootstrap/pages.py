"""The pages, put together from the settings and the services."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec
from starlette.routing import BaseRoute

from tok0n.adapters.passwords import Argon2Passwords
from tok0n.api.errors import status_of
from tok0n.bootstrap.resources import Store, open_authenticator, open_payments
from tok0n.domain.packs import Pack
from tok0n.domain.rate_limit import Limits
from tok0n.domain.users import Registration
from tok0n.ports.clock import Clock
from tok0n.ports.mail import Mailer
from tok0n.ports.users import Passwords
from tok0n.services.caller_cache import CallerCache
from tok0n.services.catalogue import Catalogue
from tok0n.services.complete_chat import CompleteChat
from tok0n.services.housekeeping import PeriodicTask
from tok0n.services.passkeys import SignInByPasskey
from tok0n.services.payments import SellPacks
from tok0n.services.profile import Profile
from tok0n.services.request_log import RequestLog
from tok0n.services.requests_in_progress import RequestsInProgress
from tok0n.services.sign_in import SignIn
from tok0n.settings import Settings
from tok0n.web.dashboard.access import access_routes
from tok0n.web.dashboard.dashboard_ports import DashboardPorts
from tok0n.web.dashboard.keys import key_routes
from tok0n.web.dashboard.orders import OrderPages, SellerShown
from tok0n.web.dashboard.overview import overview_routes
from tok0n.web.dashboard.passkeys import passkey_routes
from tok0n.web.dashboard.playground import Playground
from tok0n.web.dashboard.requests import request_routes
from tok0n.web.dashboard.settings import settings_routes
from tok0n.web.dashboard.sign_in import sign_in_routes
from tok0n.web.dashboard.statement import statement_routes
from tok0n.web.dashboard.usage import usage_routes
from tok0n.web.pages.assets import Assets
from tok0n.web.pages.page_context import PageContext
from tok0n.web.public.docs import docs_routes
from tok0n.web.public.landing import landing_routes
from tok0n.web.public.well_known import well_known_routes
from tok0n.web.stripe_webhook import stripe_route


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """The site and its routes, and the sign-in that goes on behind it. `packages` are large, and imported later."""

    context: PageContext
    sign_in: SignIn
    sell_packs: SellPacks | None
    forget_submissions: PeriodicTask
    routes: Sequence[BaseRoute]
    packages: Sequence[str]


def packs_of(settings: Settings) -> dict[str, Pack]:
    """The packs that are sold, by id."""
    return {
        id_: Pack(id=id_, name=pack.name, tokens=pack.tokens, price_usd_cents=pack.price_usd_cents)
        for id_, pack in settings.packs.items()
        if pack.active
    }


def make_sell_packs(
    settings: Settings, store: Store, clock: Clock, *, stripe_base: str | None = None
) -> SellPacks | None:
    """What sells; None where nothing is sold. `stripe_base` is the demo's double of Stripe."""
    payments = open_payments(settings, api_base=stripe_base)
    if payments is None:
        return None
    return SellPacks(
        packs=packs_of(settings),
        orders=store.orders,
        payments=payments,
        inbox=store.inbox,
        clock=clock,
        url_of=url_maker(settings),
    )


def url_maker(settings: Settings) -> Callable[[str], str]:
    """Makes a path an address of this installation."""
    return lambda path: settings.server.public_url + path


def make_sign_in(settings: Settings, store: Store, clock: Clock, *, passwords: Passwords, mailer: Mailer) -> SignIn:
    """Sign-up and sign-in, for the pages and for commands that invite."""
    return SignIn(
        users=store.users,
        sessions=store.sessions,
        attempts=store.attempts,
        passwords=passwords,
        mailer=mailer,
        clock=clock,
        url_of=url_maker(settings),
        registration=Registration(settings.accounts.registration),
    )


def make_pages(
    settings: Settings,
    store: Store,
    clock: Clock,
    *,
    passwords: Argon2Passwords,
    mailer: Mailer,
    limits: Limits,
    catalogue: Catalogue,
    complete_chat: CompleteChat,
    caller_cache: CallerCache,
    request_log: RequestLog,
    requests_in_progress: RequestsInProgress,
    stripe_base: str | None,
) -> Pages:
    """All pages, and the webhook of the payment provider."""
    assets = Assets(urlsplit(settings.server.public_url).path)
    sign_in = make_sign_in(settings, store, clock, passwords=passwords, mailer=mailer)
    authenticator = open_authenticator(settings)
    context = PageContext(
        public_url=settings.server.public_url,
        sign_in=sign_in,
        assets=assets,
        has_passkeys=authenticator is not None,
        has_mail=bool(settings.mail.host),
        trusted_proxies=settings.server.trusted_proxies,
    )
    profile = Profile(
        users=store.users,
        attempts=store.attempts,
        passwords=passwords,
        mailer=mailer,
        clock=clock,
        url_of=url_maker(settings),
    )
    ports = DashboardPorts(
        accounts=store.accounts,
        history=store.history,
        notices=store.notices,
        users=store.users,
        sessions=store.sessions,
        profile=profile,
        catalogue=catalogue,
        clock=clock,
        forms=store.forms,
        attempts=store.attempts,
    )
    playground = Playground(
        ports=ports,
        complete_chat=complete_chat,
        caller_cache=caller_cache,
        request_log=request_log,
        requests_in_progress=requests_in_progress,
        status_of=status_of,
    )
    sell_packs = make_sell_packs(settings, store, clock, stripe_base=stripe_base)
    seller = SellerShown(**{name: getattr(settings.seller, name) for name in SellerShown.__struct_fields__})
    order_pages = OrderPages(ports=ports, orders=store.orders, sell_packs=sell_packs, seller=seller)
    routes: list[BaseRoute] = [
        assets.route(),
        *landing_routes(
            context,
            catalogue=catalogue,
            packs=list(packs_of(settings).values()),
            limits=limits,
            sells=sell_packs is not None,
        ),
        *docs_routes(context),
        *well_known_routes(context),
        *sign_in_routes(context),
        *overview_routes(context, ports),
        *key_routes(context, ports),
        *request_routes(context, ports),
        *usage_routes(context, ports),
        *statement_routes(context, ports),
        *settings_routes(context, ports),
        *access_routes(context, ports, store.passkeys),
        *playground.routes(context),
        *order_pages.routes(context),
    ]
    if sell_packs is not None:
        routes.append(stripe_route(sell_packs))
    if authenticator is not None:
        passkeys = SignInByPasskey(
            passkeys=store.passkeys,
            authenticator=authenticator,
            users=store.users,
            attempts=store.attempts,
            profile=profile,
            sign_in=sign_in,
            clock=clock,
        )
        routes += passkey_routes(context, passkeys, ports.submit_once)

    async def forget_submissions() -> None:
        await store.forms.forget_old(now_us=clock.now_us())

    uses = [("stripe", sell_packs is not None), ("webauthn", authenticator is not None)]
    packages = [package for package, is_used in uses if is_used]
    return Pages(
        context=context,
        sign_in=sign_in,
        sell_packs=sell_packs,
        forget_submissions=forget_submissions,
        routes=routes,
        packages=packages,
    )
