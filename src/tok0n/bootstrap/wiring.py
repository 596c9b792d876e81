"""What a command needs, put together from the settings and taken apart in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec
import structlog

from tok0n import settings as settings_
from tok0n.adapters import logs
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.mail import SmtpMailer
from tok0n.adapters.passwords import Argon2Passwords
from tok0n.api.chat import ChatEndpoint
from tok0n.api.cors import Cors
from tok0n.bootstrap.app import make_app
from tok0n.bootstrap.memory import TRIM_SECONDS, MemoryTrimmer
from tok0n.bootstrap.pages import Pages, make_pages, make_sign_in, url_maker
from tok0n.bootstrap.resources import Store, limits_of, open_limiter, open_mailer, open_store, open_upstreams
from tok0n.domain.catalogue import Model
from tok0n.domain.errors import Tok0nError
from tok0n.http.limits import HttpLimits
from tok0n.http.server import App
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.ports.upstream import Upstream
from tok0n.services.caller_cache import CallerCache
from tok0n.services.catalogue import Catalogue
from tok0n.services.complete_chat import CompleteChat
from tok0n.services.housekeeping import Housekeeping, PeriodicTask
from tok0n.services.notices import LowBalances
from tok0n.services.request_log import RequestLog
from tok0n.services.request_reader import RequestReader
from tok0n.services.requests_in_progress import RequestsInProgress
from tok0n.services.reservations import Reservations
from tok0n.services.sign_in import SignIn
from tok0n.services.verify_models import VerifyModels
from tok0n.settings import Settings

log = structlog.get_logger()

ALONE_SECONDS_MORE = 15.0
"""How much longer than its own deadline a verification keeps other processes from the same model."""

CANCELLED_CALLS_SECONDS_MAX = 10.0
"""How long cancelled calls have at the end to release what they reserved."""


LIMITER_WAIT_SECONDS = 10.0
"""How long a command waits for Redis to have the data of the last minute: filling it takes 2 to 4 seconds."""

REMEMBER_USE_SECONDS = 30.0
LOW_BALANCES_SECONDS = 5.0
FORGET_SECONDS = 600.0
FORGET_SUBMISSIONS_SECONDS = 60.0
HANDLE_SECONDS = 5.0
RECONCILE_SECONDS = 3_600.0


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A serving process, ready for its listener."""

    app: App
    store: Store
    clock: Clock
    pages: Pages
    caller_cache: CallerCache
    draining: asyncio.Event


@contextlib.asynccontextmanager
async def open_catalogue(settings: Settings, store: Store) -> AsyncIterator[tuple[Catalogue, VerifyModels]]:
    """The catalogue and its verification, for a command that runs beside a server or without one."""
    clock = SystemClock()
    catalogue = Catalogue(declared_models(settings), store.models)
    await catalogue.refresh()
    async with (
        open_upstreams(settings) as upstreams,
        open_limiter(settings, store, clock, wait_seconds=LIMITER_WAIT_SECONDS) as limiter,
    ):
        yield catalogue, _verification(settings, store, upstreams, limiter, clock)


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings, *, stripe_base: str | None = None) -> AsyncIterator[Gateway]:
    """Everything that a serving process needs, recovered from whatever ended the one before; ended in order.

    `stripe_base` is the demo's double of Stripe.
    """
    clock = SystemClock()
    request_log = RequestLog(logs.configure(level=settings.logs.level, style=settings.logs.format))
    async with (
        open_store(settings, serving=True) as store,
        open_upstreams(settings) as upstreams,
        open_limiter(settings, store, clock) as limiter,
        open_mailer(settings) as mailer,
        _open_passwords() as passwords,
        contextlib.AsyncExitStack() as opened,
    ):
        await _recover(settings, store, clock)
        reservations = Reservations(store.ledger, clock)
        catalogue = Catalogue(declared_models(settings), store.models)
        await catalogue.refresh()
        reader = opened.enter_context(contextlib.closing(RequestReader(catalogue)))
        verify_models = _verification(settings, store, upstreams, limiter, clock)
        caller_cache = CallerCache(store.accounts, clock)
        requests_in_progress = RequestsInProgress()
        trimmer = MemoryTrimmer()
        trimmer.limit_arenas()
        complete_chat = CompleteChat(
            caller_cache=caller_cache,
            reader=reader,
            history=store.history,
            limiter=limiter,
            reservations=reservations,
            upstreams=upstreams,
            clock=clock,
        )
        cors = Cors(settings.server.cors_origins)
        chat = ChatEndpoint(
            complete_chat,
            clock,
            request_log,
            requests_in_progress,
            body_bytes_max=settings.server.max_body_bytes,
            cors=cors,
        )
        pages = make_pages(
            settings,
            store,
            clock,
            passwords=passwords,
            mailer=mailer,
            limits=limits_of(settings),
            catalogue=catalogue,
            complete_chat=complete_chat,
            caller_cache=caller_cache,
            request_log=request_log,
            requests_in_progress=requests_in_progress,
            stripe_base=stripe_base,
        )
        housekeeping = Housekeeping(
            ledger=store.ledger,
            reservations=reservations,
            catalogue=catalogue,
            verify_models=verify_models,
            clock=clock,
            verify_interval_us=settings.catalogue.verify_interval_hours * 3_600_000_000,
            more=[
                *_payment_chores(pages),
                (caller_cache.flush_last_used, REMEMBER_USE_SECONDS),
                (LowBalances(store.notices, mailer, url_maker(settings)).tell, LOW_BALANCES_SECONDS),
                (pages.sign_in.forget_old, FORGET_SECONDS),
                (trimmer.trim, TRIM_SECONDS),
                (pages.forget_submissions, FORGET_SUBMISSIONS_SECONDS),
            ],
        )
        draining = asyncio.Event()
        app = make_app(
            chat=chat,
            catalogue=catalogue,
            database=store.database,
            limiter=limiter,
            caller_cache=caller_cache,
            history=store.history,
            clock=clock,
            request_log=request_log,
            is_draining=draining.is_set,
            context=pages.context,
            page_routes=pages.routes,
            limits=_http_limits(settings),
            cors=cors,
        )
        housekeeping.start()
        try:
            yield Gateway(app=app, store=store, clock=clock, pages=pages, caller_cache=caller_cache, draining=draining)
        finally:
            await _end(requests_in_progress, housekeeping, reservations, request_log)
            await pages.sign_in.idle()
            await caller_cache.aclose()
            with contextlib.suppress(Tok0nError):
                await caller_cache.flush_last_used()


@contextlib.asynccontextmanager
async def open_sign_in(settings: Settings, store: Store) -> AsyncIterator[SignIn]:
    """Sign-up and sign-in, for a command; what it left for later is done at the end."""
    async with open_mailer(settings) as mailer, _open_passwords() as passwords:
        sign_in = make_sign_in(settings, store, SystemClock(), passwords=passwords, mailer=mailer)
        yield sign_in
        await sign_in.idle()
        if isinstance(mailer, SmtpMailer):
            await mailer.sent()


def _http_limits(settings: Settings) -> HttpLimits:
    server = settings.server
    return HttpLimits(
        body_seconds=server.body_read_seconds,
        buffered_bytes_max=server.buffered_bytes_max,
        client_connections_max=server.connections_per_client_max,
    )


def _payment_chores(pages: Pages) -> list[tuple[PeriodicTask, float]]:
    if pages.sell_packs is None:
        return []
    return [(pages.sell_packs.handle_all, HANDLE_SECONDS), (pages.sell_packs.reconcile, RECONCILE_SECONDS)]


@contextlib.asynccontextmanager
async def _open_passwords() -> AsyncIterator[Argon2Passwords]:
    passwords = Argon2Passwords()
    try:
        yield passwords
    finally:
        passwords.close()


def declared_models(settings: Settings) -> dict[str, Model]:
    """The models of the settings, by id."""
    return {model_id: settings_.model_of(model_id, settings) for model_id in settings.models}


def _verification(
    settings: Settings, store: Store, upstreams: Mapping[str, Upstream], limiter: Limiter, clock: Clock
) -> VerifyModels:
    shared = settings.database.is_postgres
    return VerifyModels(
        models=store.models,
        upstreams=upstreams,
        limiter=limiter,
        clock=clock,
        timeout_seconds=settings.catalogue.verify_timeout_seconds,
        alone_seconds=settings.catalogue.verify_timeout_seconds + ALONE_SECONDS_MORE if shared else 0.0,
    )


async def _recover(settings: Settings, store: Store, clock: Clock) -> None:
    """The embedded database's lock file says that no other server lives: what is PENDING was left by a dead one."""
    if settings.database.is_postgres:
        return
    expired = await store.ledger.recover(now_us=clock.now_us())
    if expired:
        log.warning("reservations_recovered", rows=expired)


async def _end(
    requests_in_progress: RequestsInProgress,
    housekeeping: Housekeeping,
    reservations: Reservations,
    request_log: RequestLog,
) -> None:
    await housekeeping.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCELLED_CALLS_SECONDS_MAX):
            await requests_in_progress.idle()
    await reservations.retry_releases()
    await request_log.aclose()
