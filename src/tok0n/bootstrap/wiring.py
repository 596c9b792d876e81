"""Start and stop the parts of a serving process: services, pages and periodic tasks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import structlog

from tok0n.bootstrap.app import App, make_app
from tok0n.bootstrap.memory import TRIM_SECONDS, MemoryTrimmer, find_glibc
from tok0n.bootstrap.pages import Pages, make_pages
from tok0n.bootstrap.services import Services, open_services
from tok0n.domain.errors import Tok0nError
from tok0n.ports.clock import Clock
from tok0n.ports.database import Lease
from tok0n.services.housekeeping import SWEEP_SECONDS, Housekeeping, PeriodicTask
from tok0n.services.rejections import DELETE_SECONDS as DELETE_REJECTIONS_SECONDS
from tok0n.services.rejections import WRITE_SECONDS as WRITE_REJECTIONS_SECONDS
from tok0n.services.streams import CHECK_SECONDS as CHECK_STREAMS_SECONDS
from tok0n.settings import Settings

log = structlog.get_logger()

CANCELLED_REQUESTS_SECONDS_MAX = 10.0
"""The time that cancelled requests have at shutdown to release their reservations."""

RENEW_LEASE_SECONDS = 5.0
FLUSH_LAST_USED_SECONDS = 60.0
FORGET_IDLE_KEYS_SECONDS = 60.0
REFRESH_CALLERS_SECONDS = 1.0
LOW_BALANCES_SECONDS = 5.0
BUDGET_ALERTS_SECONDS = 5.0
EVENT_NOTICES_SECONDS = 2.0
PURCHASE_ALERTS_SECONDS = 5.0
DELETE_SIGN_IN_SECONDS = 600.0
DELETE_SUBMISSIONS_SECONDS = 60.0
DELETE_MODEL_DAYS_SECONDS = 600.0
ROLL_UP_DAILY_USE_SECONDS = 600.0
ROLL_UP_OUTCOMES_SECONDS = 60.0
HANDLE_PAYMENTS_SECONDS = 5.0
RECONCILE_PAYMENTS_SECONDS = 3_600.0

ROLL_UP_ACCOUNTS_MAX = 250
"""The accounts whose use one transaction of the daily roll-up adds up."""

ROLL_UP_PAUSE_SECONDS = 0.02
"""The pause between two transactions of a roll-up, so that settlements don't wait long."""


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A serving process, ready for its listener."""

    app: App
    services: Services
    pages: Pages
    housekeeping: Housekeeping
    draining: asyncio.Event


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings,
    *,
    stripe_base: str | None = None,
    shows_components: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[Gateway]:
    """Start a gateway that is ready for its listener, and stop it at the end. Recovers from a crash first.

    `stripe_base` is the URL of the demo's Stripe double. `shows_components`: the demo has a page of all components.
    Without a `clock`, it is the system's.
    """
    async with open_services(settings, stripe_base=stripe_base, clock=clock) as services:
        await _recover(services)
        if services.store.lease is not None:
            await services.store.lease.renew()
        trimmer = MemoryTrimmer(find_glibc())
        trimmer.limit_arenas()
        pages = make_pages(services, shows_components=shows_components)
        housekeeping = _make_housekeeping(services, trimmer)
        draining = asyncio.Event()
        app = make_app(services, pages, is_draining=draining.is_set)
        housekeeping.start()
        try:
            yield Gateway(app=app, services=services, pages=pages, housekeeping=housekeeping, draining=draining)
        finally:
            await _shut_down(services, housekeeping)


def _make_housekeeping(services: Services, trimmer: MemoryTrimmer) -> Housekeeping:
    settings, store, clock = services.settings, services.store, services.clock

    async def delete_submissions() -> None:
        await store.forms.delete_old(now_us=clock.now_us())

    async def roll_up() -> None:
        has_more = True
        while has_more:
            has_more = await store.daily_use.roll_up(now_us=clock.now_us(), accounts_max=ROLL_UP_ACCOUNTS_MAX)
            await asyncio.sleep(ROLL_UP_PAUSE_SECONDS)

    async def roll_up_outcomes() -> None:
        has_more = True
        while has_more:
            has_more = await store.outcome_rollup.roll_up(now_us=clock.now_us())
            await asyncio.sleep(ROLL_UP_PAUSE_SECONDS)

    async def delete_model_days() -> None:
        await store.model_days.delete_old(now_us=clock.now_us())

    tasks: list[tuple[PeriodicTask, float]] = [
        (services.streams.check, CHECK_STREAMS_SECONDS),
        (services.caller_cache.refresh, REFRESH_CALLERS_SECONDS),
        (services.caller_cache.flush_last_used, FLUSH_LAST_USED_SECONDS),
        (services.limiter.forget_idle_keys, FORGET_IDLE_KEYS_SECONDS),
        (services.low_balances.notify, LOW_BALANCES_SECONDS),
        (services.budget_alerts.notify, BUDGET_ALERTS_SECONDS),
        (services.event_notices.notify, EVENT_NOTICES_SECONDS),
        (services.purchase_alerts.notify, PURCHASE_ALERTS_SECONDS),
        (services.sign_in.delete_expired, DELETE_SIGN_IN_SECONDS),
        (trimmer.trim, TRIM_SECONDS),
        (delete_submissions, DELETE_SUBMISSIONS_SECONDS),
        (roll_up, ROLL_UP_DAILY_USE_SECONDS),
        (roll_up_outcomes, ROLL_UP_OUTCOMES_SECONDS),
        (delete_model_days, DELETE_MODEL_DAYS_SECONDS),
    ]
    if store.lease is not None:
        tasks += _lease_tasks(store.lease, clock)
    if services.rejections is not None:
        tasks += [
            (services.rejections.write, WRITE_REJECTIONS_SECONDS),
            (services.rejections.delete_old, DELETE_REJECTIONS_SECONDS),
        ]
    if services.sell_packs is not None:
        tasks += [
            (services.sell_packs.handle_all, HANDLE_PAYMENTS_SECONDS),
            (services.sell_packs.reconcile, RECONCILE_PAYMENTS_SECONDS),
        ]
    return Housekeeping(
        ledger=store.ledger,
        reservations=services.reservations,
        catalogue=services.catalogue,
        verify_models=services.verify_models,
        clock=clock,
        verify_interval_us=settings.catalogue.verify_interval_hours * 3_600_000_000,
        more_tasks=tasks,
    )


def _lease_tasks(lease: Lease, clock: Clock) -> list[tuple[PeriodicTask, float]]:
    async def expire_abandoned() -> None:
        if expired := await lease.expire_abandoned(now_us=clock.now_us()):
            log.warning("reservations_expired", rows=expired)

    return [(lease.renew, RENEW_LEASE_SECONDS), (expire_abandoned, SWEEP_SECONDS)]


async def _recover(services: Services) -> None:
    """Expire a killed process's reservations. The lock of an embedded database ensures that no other server runs."""
    if services.settings.database.is_shared:
        return
    expired = await services.store.ledger.recover(now_us=services.clock.now_us())
    if expired:
        log.warning("reservations_recovered", rows=expired)


async def _shut_down(services: Services, housekeeping: Housekeeping) -> None:
    """Stop the periodic tasks, wait for cancelled requests, write what is queued, and end the lease last.

    Once the lease has ended, other processes may expire the reservations of this one.
    """
    await housekeeping.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCELLED_REQUESTS_SECONDS_MAX):
            await services.requests_in_progress.wait_until_idle()
    await services.reservations.retry_releases()
    await services.request_log.aclose()
    if services.rejections is not None:
        await services.rejections.write()
    await services.sign_in.wait_until_idle()
    await services.caller_cache.aclose()
    with contextlib.suppress(Tok0nError):
        await services.caller_cache.flush_last_used()
    if services.store.lease is not None:
        with contextlib.suppress(Tok0nError):
            await services.store.lease.end()
