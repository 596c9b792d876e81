"""Open the adapters that the settings select, and close them in order."""

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog

from tok0n.adapters.mail import LogMailer, SmtpMailer, SmtpOptions
from tok0n.adapters.memory.limiter import MemoryLimiter
from tok0n.adapters.passkeys import WebAuthn
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.balance_alerts import SqlBalanceAlerts
from tok0n.adapters.sql.repositories.billing import SqlBilling
from tok0n.adapters.sql.repositories.budget_notices import SqlBudgetNotices
from tok0n.adapters.sql.repositories.corrections import SqlCorrections
from tok0n.adapters.sql.repositories.daily_use import SqlDailyUse
from tok0n.adapters.sql.repositories.documents import SqlDocuments
from tok0n.adapters.sql.repositories.exported import SqlExportedRows
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.lots import SqlLots
from tok0n.adapters.sql.repositories.model_days import SqlModelDays
from tok0n.adapters.sql.repositories.models import SqlModels
from tok0n.adapters.sql.repositories.notices import SqlNoticeOutbox, SqlPreferences
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.repositories.outcome_rollup import SqlOutcomeRollup
from tok0n.adapters.sql.repositories.outcomes import SqlOutcomes
from tok0n.adapters.sql.repositories.passkeys import SqlPasskeys
from tok0n.adapters.sql.repositories.purchase_emails import SqlPurchaseEmails
from tok0n.adapters.sql.repositories.rejections import SqlRejectedRequests
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.statement import SqlStatements
from tok0n.adapters.sql.repositories.usable_codes import SqlUsableCodes
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.adapters.sql.sqlite.callers import SqliteCallers
from tok0n.adapters.sql.sqlite.ledger import SqliteLedger
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.adapters.stripe import StripePayments
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.errors import OperatorError
from tok0n.domain.rate_limit import WINDOW_SECONDS, RateLimits
from tok0n.optional_imports import is_installed
from tok0n.ports.accounts import Accounts, DailyUse, History, Statements
from tok0n.ports.callers import Callers
from tok0n.ports.catalogue import Models
from tok0n.ports.clock import Clock
from tok0n.ports.corrections import Corrections
from tok0n.ports.database import Lease
from tok0n.ports.documents import Billing, Documents
from tok0n.ports.exported import ExportedRows
from tok0n.ports.forms import Attempts, Forms
from tok0n.ports.ledger import Ledger
from tok0n.ports.limiter import Limiter
from tok0n.ports.lots import Lots
from tok0n.ports.mail import (
    BalanceAlerts,
    BudgetNotices,
    MailBrand,
    Mailer,
    NoticeOutbox,
    Preferences,
    PurchaseEmails,
)
from tok0n.ports.model_days import ModelDays
from tok0n.ports.orders import Orders, UsableCodes
from tok0n.ports.outcomes import OutcomeRollup, Outcomes
from tok0n.ports.payments import Inbox, Payments
from tok0n.ports.rejections import RejectedRequests
from tok0n.ports.upstream import Upstream
from tok0n.ports.users import Authenticator, Passkeys, Sessions, Users
from tok0n.settings import Secret, Settings

log = structlog.get_logger()


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """The database, and the ports that it implements. `lease` is None on SQLite."""

    database: SqlStore
    lease: Lease | None
    ledger: Ledger
    accounts: Accounts
    corrections: Corrections
    models: Models
    model_days: ModelDays
    outcomes: Outcomes
    outcome_rollup: OutcomeRollup
    history: History
    statements: Statements
    daily_use: DailyUse
    rejected_requests: RejectedRequests
    users: Users
    sessions: Sessions
    balance_alerts: BalanceAlerts
    notice_outbox: NoticeOutbox
    preferences: Preferences
    budget_notices: BudgetNotices
    passkeys: Passkeys
    orders: Orders
    usable_codes: UsableCodes
    lots: Lots
    documents: Documents
    billing: Billing
    exported_rows: ExportedRows
    purchase_emails: PurchaseEmails
    inbox: Inbox
    forms: Forms
    attempts: Attempts
    callers: Callers


@contextlib.asynccontextmanager
async def open_store(settings: Settings, *, serving: bool = False, migrating: bool = False) -> AsyncIterator[Store]:
    """Open the database of the settings, and close it at the end. Raises `OperatorError` if it is unusable.

    Opening SQLite migrates it. PostgreSQL must have the current schema, unless `migrating`.
    """
    if settings.database.is_postgres:
        opening = _open_postgres(settings, checked=not migrating)
    else:
        opening = _open_sqlite(settings, serving=serving)
    async with opening as store:
        yield store


def _store(database: SqlStore, ledger: Ledger, callers: Callers, *, lease: Lease | None = None) -> Store:
    return Store(
        database=database,
        lease=lease,
        ledger=ledger,
        accounts=SqlAccounts(database),
        corrections=SqlCorrections(database),
        models=SqlModels(database),
        model_days=SqlModelDays(database),
        outcomes=SqlOutcomes(database),
        outcome_rollup=SqlOutcomeRollup(database),
        history=SqlHistory(database),
        statements=SqlStatements(database),
        daily_use=SqlDailyUse(database),
        rejected_requests=SqlRejectedRequests(database),
        users=SqlUsers(database),
        sessions=SqlSessions(database),
        balance_alerts=SqlBalanceAlerts(database),
        notice_outbox=SqlNoticeOutbox(database),
        preferences=SqlPreferences(database),
        budget_notices=SqlBudgetNotices(database),
        passkeys=SqlPasskeys(database),
        orders=SqlOrders(database),
        usable_codes=SqlUsableCodes(database),
        lots=SqlLots(database),
        documents=SqlDocuments(database),
        billing=SqlBilling(database),
        exported_rows=SqlExportedRows(database),
        purchase_emails=SqlPurchaseEmails(database),
        inbox=SqlInbox(database),
        forms=SqlForms(database),
        attempts=SqlAttempts(database),
        callers=callers,
    )


@contextlib.asynccontextmanager
async def _open_sqlite(settings: Settings, *, serving: bool) -> AsyncIterator[Store]:
    database = SqliteStore(settings.database.sqlite_path, serving=serving)
    callers = SqliteCallers(database)
    try:
        yield _store(database, SqliteLedger(database), callers)
    finally:
        await callers.aclose()
        await database.aclose()


@contextlib.asynccontextmanager
async def _open_postgres(settings: Settings, *, checked: bool) -> AsyncIterator[Store]:
    try:
        from tok0n.adapters.sql.postgres.callers import PostgresCallers  # noqa: PLC0415
        from tok0n.adapters.sql.postgres.connection import PostgresOptions  # noqa: PLC0415
        from tok0n.adapters.sql.postgres.lease import PostgresLease  # noqa: PLC0415
        from tok0n.adapters.sql.postgres.ledger import PostgresLedger  # noqa: PLC0415
        from tok0n.adapters.sql.postgres.store import PostgresStore  # noqa: PLC0415  an extra
    except ImportError as error:
        raise no_extra("postgres", error.name) from error
    database = PostgresStore(PostgresOptions(**_values_for(PostgresOptions, settings.database)))
    lease = PostgresLease(database)
    ledger = PostgresLedger(database, process_id=lease.process_id)
    callers = PostgresCallers(database)
    try:
        if checked:
            await database.check()
        yield _store(database, ledger, callers, lease=lease)
    finally:
        await callers.aclose()
        await ledger.aclose()
        await lease.aclose()
        await database.aclose()


def limits_of(settings: Settings) -> RateLimits:
    """Convert the limits of the settings to the type of the domain."""
    return RateLimits(**_values_for(RateLimits, settings.limits))


def _values_for(options: type[msgspec.Struct], section: msgspec.Struct) -> dict[str, Any]:
    """Return the settings of a section for which `options` has a field of the same name."""
    return {name: getattr(section, name) for name in options.__struct_fields__}


def _resolved(secret: Secret | None) -> str | None:
    return None if secret is None else secret.resolve()


@contextlib.asynccontextmanager
async def open_limiter(
    settings: Settings, store: Store, clock: Clock, *, wait_seconds: float = 0.0
) -> AsyncIterator[Limiter]:
    """Open the limiter of the settings with the requests of the last minute, and close it at the end.

    If Redis is unavailable, a server starts and responds 503. A command waits at most `wait_seconds` for Redis to have
    its data, and then raises `LimiterUnavailable`.
    """
    limits = limits_of(settings)
    if not settings.limits.is_redis:
        memory = MemoryLimiter(limits, clock)
        now_us = clock.now_us()
        recent = await store.ledger.recent(since_us=now_us - round(WINDOW_SECONDS * 1_000_000))
        memory.refill(recent, now_us=now_us)
        yield memory
        return
    try:
        from tok0n.adapters.redis.limiter import RedisLimiter  # noqa: PLC0415  an extra
    except ImportError as error:
        raise no_extra("redis", error.name) from error
    redis = RedisLimiter(settings.limits.backend, limits, clock, recent=store.ledger.recent)
    redis.start()
    try:
        if wait_seconds:
            await redis.wait_until_ready(seconds_max=wait_seconds)
        yield redis
    finally:
        await redis.aclose()


@contextlib.asynccontextmanager
async def open_upstreams(settings: Settings) -> AsyncIterator[Mapping[str, Upstream]]:
    """Open a client for each declared upstream, and close them at the end. Raises `SettingsInvalid`."""
    clients = {
        name: HttpUpstream(name=name, **msgspec.structs.asdict(upstream) | {"api_key": _resolved(upstream.api_key)})
        for name, upstream in settings.upstreams.items()
    }
    try:
        yield clients
    finally:
        for client in clients.values():
            await client.aclose()


@contextlib.asynccontextmanager
async def open_mailer(settings: Settings) -> AsyncIterator[Mailer]:
    """Open a mailer to the SMTP server of the settings, or to the log, and close it at the end.

    Raises `SettingsInvalid` for a missing secret.
    """
    mail, site = settings.mail, settings.site
    brand = MailBrand(name=site.name, support_email=site.support_email)
    if not mail.host:
        yield LogMailer(brand)
        return
    credentials = {"username": mail.username or None, "password": _resolved(mail.password)}
    mailer = SmtpMailer(SmtpOptions(**_values_for(SmtpOptions, mail) | credentials), brand)
    try:
        yield mailer
    finally:
        await mailer.aclose()


def open_payments(settings: Settings, *, api_base: str | None = None) -> Payments | None:
    """Return the client of Stripe, or None without payments. `api_base` is the URL of the demo's double.

    Raises `SettingsInvalid` for a missing secret.
    """
    payments = settings.payments
    if payments is None:
        return None
    if not is_installed("stripe"):
        raise no_extra("stripe", "stripe")
    return StripePayments(
        secret_key=payments.secret_key.resolve(),
        webhook_secret=payments.webhook_secret.resolve(),
        automatic_tax=payments.automatic_tax,
        promotion_codes=payments.promotion_codes,
        api_base=api_base,
    )


def open_authenticator(settings: Settings) -> Authenticator | None:
    """Return the passkey adapter. None without the extra, or if `public_url` has an IP address."""
    host = urlsplit(settings.server.public_url).hostname or ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    return WebAuthn(settings.server.public_url, site=settings.site.name) if is_installed("webauthn") else None


def no_extra(extra: str, package: str | None) -> OperatorError:
    """Return the error for an installation without the package of an extra."""
    return OperatorError(f"The package {package} is missing: pip install 'tok0n[{extra}]'.")
