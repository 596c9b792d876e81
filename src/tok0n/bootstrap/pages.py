"""Build the pages from the settings and the services."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tok0n.api.errors import status_of
from tok0n.api.routes import is_page_request
from tok0n.bootstrap.resources import limits_of, open_authenticator
from tok0n.bootstrap.services import Services, issuer_of, packs_of, served_endpoints
from tok0n.ports.users import Authenticator
from tok0n.services.billing import AccountBilling
from tok0n.services.documents import OrderDocuments
from tok0n.services.export import AccountExport, ExportPorts
from tok0n.services.passkeys import SignInByPasskey
from tok0n.services.playground import Playground
from tok0n.services.public_models import PublicModels
from tok0n.services.redeem_codes import RedeemCodes
from tok0n.settings import SiteSettings
from tok0n.web.dashboard.access import access_routes
from tok0n.web.dashboard.activity import activity_routes
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.first_steps import first_step_routes
from tok0n.web.dashboard.keys import key_routes
from tok0n.web.dashboard.orders import OrderPages, OrderServices
from tok0n.web.dashboard.overview import overview_routes
from tok0n.web.dashboard.passkeys import passkey_routes
from tok0n.web.dashboard.playground import playground_routes
from tok0n.web.dashboard.requests import request_routes
from tok0n.web.dashboard.settings import settings_routes
from tok0n.web.dashboard.sign_in import sign_in_routes
from tok0n.web.dashboard.statement import statement_routes
from tok0n.web.dashboard.two_factor import two_factor_routes
from tok0n.web.dashboard.usage import usage_routes
from tok0n.web.public.components import components_routes
from tok0n.web.public.docs import docs_routes
from tok0n.web.public.guide_values import ServerFacts
from tok0n.web.public.landing import landing_routes
from tok0n.web.public.models import model_page_routes
from tok0n.web.public.well_known import well_known_routes
from tok0n.web.rendering.assets import Assets
from tok0n.web.rendering.brand import Brand, brand_assets, logo_name
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.stripe_webhook import stripe_route


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of all pages. `packages` are large packages to import after the server has started."""

    context: PageContext
    routes: Sequence[BaseRoute]
    packages: Sequence[str]


def make_pages(services: Services, *, shows_components: bool = False) -> Pages:
    """Build the pages and the payment provider's webhook. The demo also shows the pages' components."""
    settings, store = services.settings, services.store
    site = settings.site
    logo = Path(site.logo) if site.logo else None
    assets = Assets(urlsplit(settings.server.public_url).path, brand_assets(accent_color=site.accent_color, logo=logo))
    authenticator = open_authenticator(settings)
    context = PageContext(
        public_url=settings.server.public_url,
        sign_in=services.sign_in,
        assets=assets,
        has_passkeys=authenticator is not None,
        has_mail=bool(settings.mail.host),
        sells_packs=services.sell_packs is not None and bool(packs_of(settings)),
        trusted_proxies=settings.server.trusted_proxies,
        brand=_brand(site),
    )
    dashboard = DashboardContext(
        api_keys=services.api_keys,
        history=store.history,
        outcomes=store.outcomes,
        low_balances=services.low_balances,
        notice_preferences=services.notice_preferences,
        users=store.users,
        sessions=store.sessions,
        profile=services.profile,
        token_classes=services.token_classes,
        token_sources=services.token_sources,
        catalogue=services.catalogue,
        costs=services.costs,
        clock=services.clock,
        forms=store.forms,
    )
    routes = [assets.route(), *_public_routes(services, context), *_dashboard_routes(services, context, dashboard)]
    if shows_components:
        routes += components_routes(context)
    if services.sell_packs is not None:
        routes.append(stripe_route(services.sell_packs))
    if authenticator is not None:
        routes += passkey_routes(context, _make_passkeys(services, authenticator), dashboard.submit_once)
    uses = [("stripe", services.sell_packs is not None), ("webauthn", authenticator is not None)]
    packages = [package for package, is_used in uses if is_used]
    return Pages(context=context, routes=routes, packages=packages)


def _brand(site: SiteSettings) -> Brand:
    return Brand(
        name=site.name,
        tagline=site.tagline,
        support_email=site.support_email,
        terms_url=site.terms_url,
        privacy_url=site.privacy_url,
        imprint_url=site.imprint_url,
        show_powered_by=site.show_powered_by,
        logo=logo_name(Path(site.logo)) if site.logo else "",
        has_accent=bool(site.accent_color),
    )


def _public_routes(services: Services, context: PageContext) -> list[BaseRoute]:
    endpoints = served_endpoints(services.settings)
    docs = docs_routes(context, catalogue=services.catalogue, endpoints=endpoints, facts=_facts_of(services))
    landing = landing_routes(
        context,
        catalogue=services.catalogue,
        token_classes=services.token_classes,
        endpoints=endpoints,
        packs=list(packs_of(services.settings).values()),
        limits=limits_of(services.settings),
        sells=services.sell_packs is not None,
    )
    models = model_page_routes(
        context,
        models=PublicModels(
            services.catalogue,
            services.store.model_days,
            services.clock,
            packs=list(packs_of(services.settings).values()),
        ),
        token_classes=services.token_classes,
        endpoints=endpoints,
        clock=services.clock,
    )
    return [*landing, *map(_for_browsers, models), *docs, *well_known_routes(context), *sign_in_routes(context)]


def _for_browsers(route: Route) -> Route:
    """Return a route that exists only for browsers: a program that leaves out /v1 must get the error that says so."""
    show = route.endpoint

    async def show_to_browsers(request: Request) -> Response:
        if not is_page_request(request):
            raise HTTPException(404)
        response: Response = await show(request)
        response.headers.add_vary_header("accept")
        return response

    return Route(route.path, show_to_browsers, methods=["GET"])


def _facts_of(services: Services) -> ServerFacts:
    """Return the limits and features that the docs state."""
    settings = services.settings
    server, models, upstreams = settings.server, settings.models, settings.upstreams.values()
    return ServerFacts(
        limits=limits_of(settings),
        body_bytes_max=server.max_body_bytes,
        body_seconds=server.body_read_seconds,
        buffered_bytes_max=server.buffered_bytes_max,
        connections_per_client_max=server.connections_per_client_max,
        streams_max=server.streams_max,
        unread_bytes_max=server.unread_bytes_max,
        stream_hold_seconds=server.stream_hold_seconds,
        answer_bytes_max=[upstream.body_bytes_max for upstream in upstreams],
        timeout_seconds=[upstream.timeout_seconds for upstream in upstreams],
        stream_seconds=[upstream.stream_seconds for upstream in upstreams],
        stream_idle_seconds=[upstream.stream_idle_seconds for upstream in upstreams],
        tools_max=[model.tools_max for model in models.values()],
        stop_sequences_max=[model.stop_sequences_max for model in models.values()],
        registration=settings.accounts.registration,
        sells=services.sell_packs is not None,
        token_classes=services.token_classes,
        continuous_models=[
            name for name, model in models.items() if settings.upstreams[model.upstream].continuous_usage
        ],
        is_streaming=server.streaming,
    )


def _dashboard_routes(services: Services, context: PageContext, dashboard: DashboardContext) -> list[BaseRoute]:
    playground = Playground(
        api_keys=services.api_keys,
        pipeline=services.pipeline,
        caller_cache=services.caller_cache,
        forms=services.store.forms,
        request_log=services.request_log,
        rejections=services.rejections,
        requests_in_progress=services.requests_in_progress,
        clock=services.clock,
        status_of=status_of,
    )
    store = services.store
    billing = AccountBilling(store.billing)
    orders = OrderPages(
        dashboard,
        OrderServices(
            orders=store.orders,
            documents=OrderDocuments(store.documents, store.orders, services.clock, issuer_of(services.settings)),
            billing=billing,
            redeem_codes=RedeemCodes(store.orders, store.attempts, services.clock),
            sell_packs=services.sell_packs,
        ),
    )
    return [
        *overview_routes(context, dashboard),
        *first_step_routes(context, dashboard),
        *key_routes(context, dashboard),
        *activity_routes(context, dashboard),
        *request_routes(context, dashboard),
        *usage_routes(context, dashboard),
        *statement_routes(context, dashboard, services.store.statements),
        *settings_routes(context, dashboard, _make_export(services), billing),
        *two_factor_routes(context, dashboard),
        *access_routes(context, dashboard, services.store.passkeys),
        *playground_routes(context, dashboard, playground),
        *orders.routes(context),
    ]


def _make_export(services: Services) -> AccountExport:
    store = services.store
    ports = ExportPorts(
        history=store.history,
        statements=store.statements,
        rows=store.exported_rows,
        api_keys=services.api_keys,
        users=store.users,
        sessions=store.sessions,
        passkeys=store.passkeys,
        orders=store.orders,
        documents=store.documents,
        billing=store.billing,
        low_balances=services.low_balances,
        preferences=services.notice_preferences,
    )
    return AccountExport(ports, store.attempts, services.clock)


def _make_passkeys(services: Services, authenticator: Authenticator) -> SignInByPasskey:
    store = services.store
    return SignInByPasskey(
        passkeys=store.passkeys,
        authenticator=authenticator,
        users=store.users,
        attempts=store.attempts,
        profile=services.profile,
        sign_in=services.sign_in,
        clock=services.clock,
    )
