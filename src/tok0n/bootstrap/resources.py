"""What Tok0n needs from outside, opened as the settings say and closed in order."""

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
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.models import SqlModels
from tok0n.adapters.sql.repositories.notices import SqlNotices
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.repositories.passkeys import SqlPasskeys
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.adapters.sql.sqlite.ledger import SqliteLedger
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.adapters.stripe import StripePayments
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.errors import OperatorError
from tok0n.domain.rate_limit import WINDOW_SECONDS, Limits
from tok0n.optional_imports import is_installed
from tok0n.ports.accounts import Accounts, History
from tok0n.ports.catalogue import Models
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts, Forms
from tok0n.ports.ledger import Ledger
from tok0n.ports.limiter import Limiter
from tok0n.ports.mail import Mailer, Notices
from tok0n.ports.orders import Orders
from tok0n.ports.payments import Inbox, Payments
from tok0n.ports.upstream import Upstream
from tok0n.ports.users import Authenticator, Passkeys, Sessions, Users
from tok0n.settings import Secret, Settings

log = structlog.get_logger()


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """The database and what lives in it."""

    database: SqlStore
    ledger: Ledger
    accounts: Accounts
    models: Models
    history: History
    users: Users
    sessions: Sessions
    notices: Notices
    passkeys: Passkeys
    orders: Orders
    inbox: Inbox
    forms: Forms
    attempts: Attempts


@contextlib.asynccontextmanager
async def open_store(settings: Settings, *, serving: bool = False, migrating: bool = False) -> AsyncIterator[Store]:
    """The database of the settings, closed at the end. Raises `OperatorError` when it cannot be used as it is.

    The embedded default migrates by itself; PostgreSQL may have an older schema only for the one that is `migrating`.
    """
    if settings.database.is_postgres:
        opened = _open_postgres(settings, checked=not migrating)
    else:
        opened = _open_sqlite(settings, serving=serving)
    async with opened as store:
        yield store


def _store(database: SqlStore, ledger: Ledger) -> Store:
    return Store(
        database=database,
        ledger=ledger,
        accounts=SqlAccounts(database),
        models=SqlModels(database),
        history=SqlHistory(database),
        users=SqlUsers(database),
        sessions=SqlSessions(database),
        notices=SqlNotices(database),
        passkeys=SqlPasskeys(database),
        orders=SqlOrders(database),
        inbox=SqlInbox(database),
        forms=SqlForms(database),
        attempts=SqlAttempts(database),
    )


@contextlib.asynccontextmanager
async def _open_sqlite(settings: Settings, *, serving: bool) -> AsyncIterator[Store]:
    database = SqliteStore(settings.database.sqlite_path, serving=serving)
    try:
        yield _store(database, SqliteLedger(database))
    finally:
        await database.aclose()


@contextlib.asynccontextmanager
async def _open_postgres(settings: Settings, *, checked: bool) -> AsyncIterator[Store]:
    try:
        from tok0n.adapters.sql.postgres.connection import PostgresOptions  # noqa: PLC0415
        from tok0n.adapters.sql.postgres.ledger import PostgresLedger  # noqa: PLC0415
        from tok0n.adapters.sql.postgres.store import PostgresStore  # noqa: PLC0415  an extra
    except ImportError as error:
        raise no_extra("postgres", error.name) from error
    database = PostgresStore(PostgresOptions(**_values_for(PostgresOptions, settings.database)))
    ledger = PostgresLedger(database)
    try:
        if checked:
            await database.check()
        yield _store(database, ledger)
    finally:
        await ledger.aclose()
        await database.aclose()


def limits_of(settings: Settings) -> Limits:
    """The three limits, as the domain knows them."""
    return Limits(**_values_for(Limits, settings.limits))


def _values_for(options: type[msgspec.Struct], section: msgspec.Struct) -> dict[str, Any]:
    """Return the settings of a section for which `options` has a field of the same name."""
    return {name: getattr(section, name) for name in options.__struct_fields__}


def _resolved(secret: Secret | None) -> str | None:
    return None if secret is None else secret.resolve()


@contextlib.asynccontextmanager
async def open_limiter(
    settings: Settings, store: Store, clock: Clock, *, wait_seconds: float = 0.0
) -> AsyncIterator[Limiter]:
    """The limiter of the settings, knowing of every request of the last minute; closed at the end.

    A server goes on without Redis and answers 503. A command waits `wait_seconds` at most for it to have its data, and
    then raises `LimiterUnavailable`.
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
            await redis.ready(seconds_max=wait_seconds)
        yield redis
    finally:
        await redis.aclose()


@contextlib.asynccontextmanager
async def open_upstreams(settings: Settings) -> AsyncIterator[Mapping[str, Upstream]]:
    """A client for each declared upstream, closed at the end. Raises `SettingsInvalid` for a secret that is missing."""
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
    """The mail server of the settings, or the log; closed at the end. Raises `SettingsInvalid` for a missing secret."""
    mail = settings.mail
    if not mail.host:
        yield LogMailer()
        return
    credentials = {"username": mail.username or None, "password": _resolved(mail.password)}
    mailer = SmtpMailer(SmtpOptions(**_values_for(SmtpOptions, mail) | credentials))
    try:
        yield mailer
    finally:
        await mailer.aclose()


def open_payments(settings: Settings, *, api_base: str | None = None) -> Payments | None:
    """Stripe, as the settings say; None when nothing is sold. `api_base` is the demo's double, and no setting.

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
    """Return the passkey adapter. None without the extra, or for an IP address in `public_url`."""
    host = urlsplit(settings.server.public_url).hostname or ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    return WebAuthn(settings.server.public_url) if is_installed("webauthn") else None


def no_extra(extra: str, package: str | None) -> OperatorError:
    """What to tell the operator whose installation lacks an extra."""
    return OperatorError(f"The package {package} is missing: pip install 'tok0n[{extra}]'.")
