"""Build the services of a process from the settings."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from tok0n import settings as settings_
from tok0n.adapters import logs
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.mail import SmtpMailer
from tok0n.adapters.passwords import Argon2Passwords
from tok0n.bootstrap.resources import (
    Store,
    open_limiter,
    open_mailer,
    open_payments,
    open_store,
    open_upstreams,
)
from tok0n.domain.documents import Issuer, Seller
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.packs import Pack
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.users import Registration, Welcome
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.ports.mail import Mailer
from tok0n.ports.upstream import Upstream
from tok0n.ports.users import Passwords
from tok0n.services.api_keys import ApiKeys
from tok0n.services.caller_cache import CallerCache
from tok0n.services.catalogue import Catalogue
from tok0n.services.costs import Costs
from tok0n.services.event_notices import EventNotices
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.notices import BudgetAlerts, LowBalances
from tok0n.services.operate_accounts import OperateAccounts
from tok0n.services.payments import SellPacks
from tok0n.services.pipeline import Pipeline
from tok0n.services.profile import Profile
from tok0n.services.purchase_alerts import PurchaseAlerts
from tok0n.services.rejections import Rejections
from tok0n.services.request_log import RequestLog
from tok0n.services.request_reader import RequestReader
from tok0n.services.requests_in_progress import RequestsInProgress
from tok0n.services.reservations import Reservations
from tok0n.services.sign_in import SignIn
from tok0n.services.streams import StreamLimits, Streams
from tok0n.services.token_sources import TokenSources
from tok0n.services.verify_models import VerifyModels
from tok0n.settings import Settings

EXCLUSIVE_SECONDS_EXTRA = 15.0
"""A verification excludes other processes from the same model for its timeout plus this."""

LIMITER_WAIT_SECONDS = 10.0
"""The longest time that a command waits for Redis to be refilled, which takes 2 to 4 seconds."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The services and adapters of a serving process. `sell_packs` is None without payments.

    `rejections` is None if the settings keep no rejected requests.
    """

    settings: Settings
    store: Store
    clock: Clock
    limiter: Limiter
    token_classes: TokenClasses
    token_sources: TokenSources
    catalogue: Catalogue
    api_keys: ApiKeys
    verify_models: VerifyModels
    reservations: Reservations
    caller_cache: CallerCache
    pipeline: Pipeline
    streams: Streams
    requests_in_progress: RequestsInProgress
    request_log: RequestLog
    rejections: Rejections | None
    sign_in: SignIn
    profile: Profile
    notice_preferences: NoticePreferences
    event_notices: EventNotices
    low_balances: LowBalances
    budget_alerts: BudgetAlerts
    costs: Costs
    purchase_alerts: PurchaseAlerts
    sell_packs: SellPacks | None


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings, *, stripe_base: str | None = None, clock: Clock | None = None
) -> AsyncIterator[Services]:
    """Open the adapters, and build the services on them. `stripe_base` is the URL of the Stripe double."""
    clock = clock or SystemClock()
    async with (
        open_store(settings, serving=True) as store,
        open_upstreams(settings) as upstreams,
        open_limiter(settings, store, clock) as limiter,
        open_mailer(settings) as mailer,
        _open_passwords() as passwords,
    ):
        catalogue = make_catalogue(settings, store)
        await catalogue.refresh()
        caller_cache = CallerCache(store.callers, clock)
        token_sources = _token_sources(settings, store, clock)
        preferences = NoticePreferences(store.preferences)
        reservations = Reservations(store.ledger, clock)
        streams = Streams(_stream_limits(settings), clock)
        with contextlib.closing(RequestReader(catalogue, is_streaming=settings.server.streaming)) as reader:
            yield Services(
                settings=settings,
                store=store,
                clock=clock,
                limiter=limiter,
                token_classes=token_classes_of(settings),
                token_sources=token_sources,
                catalogue=catalogue,
                api_keys=_make_api_keys(settings, store, catalogue, clock),
                verify_models=_verification(settings, store, upstreams, limiter, clock),
                reservations=reservations,
                caller_cache=caller_cache,
                pipeline=Pipeline(
                    caller_cache=caller_cache,
                    reader=reader,
                    history=store.history,
                    token_classes=token_classes_of(settings),
                    token_sources=token_sources,
                    limiter=limiter,
                    reservations=reservations,
                    upstreams=upstreams,
                    streams=streams,
                    clock=clock,
                ),
                streams=streams,
                requests_in_progress=RequestsInProgress(),
                request_log=RequestLog(logs.configure(level=settings.logs.level, style=settings.logs.format)),
                rejections=_make_rejections(settings, store, clock),
                sign_in=_make_sign_in(settings, store, clock, passwords=passwords, mailer=mailer),
                profile=_make_profile(settings, store, clock, passwords=passwords, mailer=mailer),
                notice_preferences=preferences,
                event_notices=EventNotices(store.notice_outbox, mailer, clock, url_maker(settings)),
                low_balances=_low_balances(settings, store, preferences, mailer, token_sources),
                budget_alerts=BudgetAlerts(store.budget_notices, preferences, mailer, clock, url_maker(settings)),
                costs=Costs(store.lots, clock, {id_: model.token_class for id_, model in settings.models.items()}),
                purchase_alerts=PurchaseAlerts(
                    store.purchase_emails, mailer, clock, url_maker(settings), token_classes_of(settings), preferences
                ),
                sell_packs=make_sell_packs(settings, store, clock, stripe_base=stripe_base),
            )


def _low_balances(
    settings: Settings, store: Store, preferences: NoticePreferences, mailer: Mailer, token_sources: TokenSources
) -> LowBalances:
    url_of, token_classes = url_maker(settings), token_classes_of(settings)
    return LowBalances(store.balance_alerts, preferences, mailer, url_of, token_sources, token_classes)


def _token_sources(settings: Settings, store: Store, clock: Clock) -> TokenSources:
    sold = {pack.token_class for pack in packs_of(settings).values()} if settings.payments is not None else set()
    return TokenSources(
        store.usable_codes,
        clock,
        sold_classes=sold,
        url_of=url_maker(settings),
        support=settings.site.support_email or "support",
    )


def _make_rejections(settings: Settings, store: Store, clock: Clock) -> Rejections | None:
    days = settings.accounts.rejected_requests_days
    if days == 0:
        return None
    return Rejections(store.rejected_requests, clock, days=days, words=frozenset(settings.token_classes))


def _stream_limits(settings: Settings) -> StreamLimits:
    server = settings.server
    return StreamLimits(
        streams_max=server.streams_max,
        hold_seconds=server.stream_hold_seconds,
        unread_bytes_max=server.unread_bytes_max,
    )


@contextlib.asynccontextmanager
async def open_catalogue(settings: Settings, store: Store) -> AsyncIterator[tuple[Catalogue, VerifyModels]]:
    """Open the catalogue and its verification for a command, which may run while a server runs."""
    clock = SystemClock()
    catalogue = make_catalogue(settings, store)
    await catalogue.refresh()
    async with (
        open_upstreams(settings) as upstreams,
        open_limiter(settings, store, clock, wait_seconds=LIMITER_WAIT_SECONDS) as limiter,
    ):
        yield catalogue, _verification(settings, store, upstreams, limiter, clock)


@contextlib.asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[OperateAccounts]:
    """Open the database for commands that manage accounts."""
    async with open_store(settings) as store:
        yield OperateAccounts(
            store.accounts, SystemClock(), corrections=store.corrections, token_classes=token_classes_of(settings)
        )


def make_api_keys(settings: Settings, store: Store) -> ApiKeys:
    """Return the use cases of API keys, for a command."""
    return _make_api_keys(settings, store, make_catalogue(settings, store), SystemClock())


def _make_api_keys(settings: Settings, store: Store, catalogue: Catalogue, clock: Clock) -> ApiKeys:
    return ApiKeys(
        accounts=store.accounts,
        history=store.history,
        catalogue=catalogue,
        clock=clock,
        token_classes=token_classes_of(settings),
        requests_per_minute_max=settings.limits.requests_per_minute_per_key,
    )


@contextlib.asynccontextmanager
async def open_sign_in(settings: Settings, store: Store) -> AsyncIterator[SignIn]:
    """Open sign-up and sign-in for a command, and finish their background work at the end."""
    async with open_mailer(settings) as mailer, _open_passwords() as passwords:
        sign_in = _make_sign_in(settings, store, SystemClock(), passwords=passwords, mailer=mailer)
        yield sign_in
        await sign_in.wait_until_idle()
        if isinstance(mailer, SmtpMailer):
            await mailer.sent()


def packs_of(settings: Settings) -> dict[str, Pack]:
    """Return the active packs by id."""
    return {
        id_: Pack(
            id=id_,
            name=pack.name,
            tokens=pack.tokens,
            price_usd_cents=pack.price_usd_cents,
            token_class=pack.token_class,
        )
        for id_, pack in settings.packs.items()
        if pack.active
    }


def token_classes_of(settings: Settings) -> TokenClasses:
    """Return the declared token classes."""
    return TokenClasses({id_: token_class.title for id_, token_class in settings.token_classes.items()})


def make_sell_packs(
    settings: Settings, store: Store, clock: Clock, *, stripe_base: str | None = None
) -> SellPacks | None:
    """Return the service that sells packs, or None without payments. `stripe_base` is the demo's Stripe double."""
    payments = open_payments(settings, api_base=stripe_base)
    if payments is None:
        return None
    return SellPacks(
        packs=packs_of(settings),
        orders=store.orders,
        payments=payments,
        inbox=store.inbox,
        forms=store.forms,
        clock=clock,
        url_of=url_maker(settings),
        issuer=issuer_of(settings),
    )


def issuer_of(settings: Settings) -> Issuer:
    """Return what documents take from the settings."""
    token_classes = token_classes_of(settings)
    return Issuer(
        seller=Seller(**{name: getattr(settings.seller, name) for name in Seller.__struct_fields__}),
        class_titles=token_classes.titles() if token_classes.are_several() else {},
    )


def url_maker(settings: Settings) -> Callable[[str], str]:
    """Return a function that turns a path into a full URL."""
    return lambda path: settings.server.public_url + path


def _make_sign_in(settings: Settings, store: Store, clock: Clock, *, passwords: Passwords, mailer: Mailer) -> SignIn:
    return SignIn(
        users=store.users,
        sessions=store.sessions,
        attempts=store.attempts,
        passwords=passwords,
        mailer=mailer,
        clock=clock,
        url_of=url_maker(settings),
        registration=Registration(settings.accounts.registration),
        welcome=_welcome(settings),
        sends_email=bool(settings.mail.host),
    )


def _welcome(settings: Settings) -> Welcome | None:
    accounts = settings.accounts
    if not accounts.welcome_tokens:
        return None
    return Welcome(tokens=accounts.welcome_tokens, grants_per_day=accounts.welcome_grants_per_day)


def _make_profile(settings: Settings, store: Store, clock: Clock, *, passwords: Passwords, mailer: Mailer) -> Profile:
    return Profile(
        users=store.users,
        attempts=store.attempts,
        passwords=passwords,
        mailer=mailer,
        clock=clock,
        url_of=url_maker(settings),
    )


@contextlib.asynccontextmanager
async def _open_passwords() -> AsyncIterator[Argon2Passwords]:
    passwords = Argon2Passwords()
    try:
        yield passwords
    finally:
        passwords.close()


def make_catalogue(settings: Settings, store: Store) -> Catalogue:
    """Return the catalogue of the declared models. It is empty until its first refresh."""
    declared = {model_id: settings_.model_of(model_id, settings) for model_id in settings.models}
    return Catalogue(declared, store.models, stream_endpoints=_stream_endpoints(settings))


def served_endpoints(settings: Settings) -> list[Endpoint]:
    """Return the endpoints that a declared model lists. Chat is always one of them."""
    models = [settings_.model_of(model_id, settings) for model_id in settings.models]
    return [endpoint for endpoint in ENDPOINTS if endpoint is CHAT or any(map(endpoint.is_served_by, models))]


def _stream_endpoints(settings: Settings) -> list[str]:
    """Return the endpoints on which models may stream."""
    if not settings.server.streaming:
        return []
    return [endpoint.name for endpoint in ENDPOINTS if endpoint.read_stream is not None]


def _verification(
    settings: Settings, store: Store, upstreams: Mapping[str, Upstream], limiter: Limiter, clock: Clock
) -> VerifyModels:
    timeout_seconds = settings.catalogue.verify_timeout_seconds
    return VerifyModels(
        endpoints=ENDPOINTS,
        stream_endpoints=_stream_endpoints(settings),
        models=store.models,
        upstreams=upstreams,
        limiter=limiter,
        clock=clock,
        timeout_seconds=timeout_seconds,
        exclusive_seconds=timeout_seconds + EXCLUSIVE_SECONDS_EXTRA if settings.database.is_shared else 0.0,
    )
