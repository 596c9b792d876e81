"""Every setting with its type, range and default. docs/configuration.md tells users the same; a test compares them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from tok0n.domain.usage import TOKENS_MAX
from tok0n.settings.secret import Headers, Secret

RATE_MAX = 10_000_000
SECONDS_MAX = 3_600
SQLITE_PREFIX = "sqlite:///"
POSTGRES_SCHEMES = ("postgresql://", "postgres://")
MEMORY = "memory://"
REDIS_SCHEMES = ("redis://", "rediss://")

_Rate = Annotated[int, Meta(ge=1, le=RATE_MAX)]
_Tokens = Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
_Seconds = Annotated[float, Meta(gt=0, le=SECONDS_MAX)]
_Bytes = Annotated[int, Meta(ge=1_024, le=2**30)]
_Text = Annotated[str, Meta(min_length=1, max_length=1_000)]
_SecretUrl = Annotated[str, Meta(min_length=1, max_length=1_000, extra={"may_be_reference": True})]
"""A URL that may hold a password: `env:NAME` or `file:PATH` may stand for the whole of it."""

_PriceUsd = Annotated[
    str, Meta(pattern=r"\A[0-9]{1,6}(\.[0-9]{2})?\Z", description='a price in quotes, with two decimals: "5.00"')
]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """[server]. An empty `public_url` follows host and port."""

    host: _Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    public_url: str = ""
    max_body_bytes: _Bytes = 4_194_304
    body_read_seconds: _Seconds = 30.0
    buffered_bytes_max: Annotated[int, Meta(ge=2**20, le=2**40)] = 134_217_728
    connections_per_client_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_048
    shutdown_seconds: Annotated[int, Meta(ge=1, le=SECONDS_MAX)] = 25
    trusted_proxies: tuple[_Text, ...] = ("127.0.0.1", "::1")
    cors_origins: tuple[_Text, ...] = ()


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """[database]. All but `url` is for PostgreSQL. `folder` is what a relative path in `url` begins at."""

    url: _SecretUrl = "sqlite:///tok0n.db"
    pool_size: Annotated[int, Meta(ge=1, le=1_000)] = 10
    connect_timeout_seconds: _Seconds = 5.0
    statement_timeout_seconds: _Seconds = 10.0
    lock_timeout_seconds: _Seconds = 5.0
    folder: Path = Path()

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL, which several processes can share."""
        return self.url.startswith(POSTGRES_SCHEMES)

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded database."""
        assert not self.is_postgres
        return self.folder / self.url.removeprefix(SQLITE_PREFIX)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """[limits]."""

    backend: _SecretUrl = MEMORY
    requests_per_minute_per_key: _Rate = 60
    concurrent_requests_per_user: _Rate = 10
    upstream_requests_per_minute: _Rate = 55

    @property
    def is_redis(self) -> bool:
        """Whether the limits are counted in Redis, which several processes can share."""
        return self.backend.startswith(REDIS_SCHEMES)


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[upstreams.NAME]. `timeout_seconds` is the deadline of a whole call, connecting included.

    `idle_seconds` is below what uvicorn and Node keep an idle connection: 5 s.
    """

    base_url: _Text
    api_key: Secret | None = None
    timeout_seconds: _Seconds = 120.0
    connect_seconds: _Seconds = 10.0
    body_bytes_max: _Bytes = 16_777_216
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    idle_seconds: _Seconds = 4.0
    reuse_connections: bool = True
    headers: Headers = Headers({})
    proxy_url: _SecretUrl | None = None
    ca_file: _Text | None = None


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[models.ID]. Missing `upstream_model` and `default_output_tokens` are filled in when the settings are loaded."""

    upstream: _Text
    upstream_model: _Text | None = None
    context_window_tokens: _Tokens | None = None
    max_output_tokens: _Tokens
    default_output_tokens: _Tokens | None = None
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    bound: Literal["bytes"] = "bytes"
    image_tokens_max: _Tokens | None = None
    audio_tokens_max: _Tokens | None = None
    file_tokens_max: _Tokens | None = None
    extra_fields: tuple[_Text, ...] = ()
    tools_max: Annotated[int, Meta(ge=1, le=10_000)] = 128
    stop_sequences_max: Annotated[int, Meta(ge=1, le=10_000)] = 4
    reasoning_tokens_max: Annotated[int, Meta(ge=0, le=TOKENS_MAX)] = 0
    verify_output_tokens: _Tokens = 16
    owned_by: _Text = "tok0n"


class CatalogueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[catalogue]."""

    verify_interval_hours: Annotated[int, Meta(ge=1, le=8_760)] = 24
    verify_timeout_seconds: _Seconds = 30.0


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """[logs]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class AccountsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[accounts]."""

    registration: Literal["open", "invite", "closed"] = "open"


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """[mail]. Without a host, mails are printed to the log."""

    host: str = ""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = ""
    username: str = ""
    password: Secret | None = None
    timeout_seconds: _Seconds = 20.0


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """[packs.ID]. The price is a decimal string, so that no cent is lost in a float."""

    name: _Text
    tokens: _Tokens
    price_usd: _PriceUsd
    active: bool = True

    @property
    def price_usd_cents(self) -> int:
        """The price in cents."""
        dollars, _, cents = self.price_usd.partition(".")
        return int(dollars) * 100 + int(cents or "0")


class Payments(msgspec.Struct, frozen=True, kw_only=True):
    """[payments]: Stripe. Without this section nothing is sold."""

    secret_key: Secret
    webhook_secret: Secret
    automatic_tax: bool = False
    promotion_codes: bool = False


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """[seller]: who stands on receipts."""

    name: str = ""
    address: str = ""
    email: str = ""
    tax_id: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    server: Server = Server()
    database: Database = Database()
    limits: Limits = Limits()
    upstreams: dict[str, UpstreamSettings] = {}
    models: dict[str, ModelSettings] = {}
    catalogue: CatalogueSettings = CatalogueSettings()
    logs: Logs = Logs()
    accounts: AccountsSettings = AccountsSettings()
    mail: Mail = Mail()
    packs: dict[str, Pack] = {}
    payments: Payments | None = None
    seller: Seller = Seller()


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": Server,
    "database": Database,
    "limits": Limits,
    "catalogue": CatalogueSettings,
    "logs": Logs,
    "accounts": AccountsSettings,
    "mail": Mail,
    "payments": Payments,
    "seller": Seller,
}
"""The sections that there is one of."""

TABLES: dict[str, type[msgspec.Struct]] = {"upstreams": UpstreamSettings, "models": ModelSettings, "packs": Pack}
"""The sections that hold a table for each id."""

SECRET_URL_TYPES = (_SecretUrl, _SecretUrl | None)
"""The types of settings that hold a URL for which a secret reference may stand."""

_DERIVED = {"folder"}
"""Fields that are no settings."""


def fields_of(struct: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    """The settings of a section, by name."""
    return {field.name: field for field in msgspec.structs.fields(struct) if field.name not in _DERIVED}


def default_of(field: FieldInfo) -> Any:
    """What a setting is when it is not given."""
    assert not field.required
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
