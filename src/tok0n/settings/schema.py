"""Declare each setting once: its name, type, limits, default and rule. Tests compare docs/configuration.md with it.

`Meta.extra` of a setting may have:

- `rule`: a function of `rules`;
- `expected`: a description of valid values for the error message, if the type and its limits don't suffice;
- `may_be_reference`: the URL may have a password, so a secret reference may replace it;
- `old_name`: a name that is still accepted, with a warning;
- `notice`: a warning if the setting is set.
"""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, inspect
from msgspec.structs import FieldInfo

from tok0n.domain.ledger import STANDARD
from tok0n.domain.usage import TOKENS_MAX
from tok0n.settings import rules
from tok0n.settings.problems import SettingsProblem
from tok0n.settings.rules import MEMORY, POSTGRES_SCHEMES, REDIS_SCHEMES, SQLITE_PREFIX
from tok0n.settings.secret import Headers, Secret

RATE_MAX = 10_000_000
SECONDS_MAX = 3_600
STREAM_SECONDS_MAX = 86_400
CONNECTIONS_MAX = 2_000
"""The default of an upstream's `connections_max`, in addition to a connection for each possible stream."""

_Rate = Annotated[int, Meta(ge=1, le=RATE_MAX)]
_Tokens = Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
_Seconds = Annotated[float, Meta(gt=0, le=SECONDS_MAX)]
_StreamSeconds = Annotated[float, Meta(gt=0, le=STREAM_SECONDS_MAX)]
_Bytes = Annotated[int, Meta(ge=1_024, le=2**30)]
_TotalBytes = Annotated[int, Meta(ge=2**20, le=2**40)]
_Text = Annotated[str, Meta(min_length=1, max_length=1_000)]
_QUERY = 'a table of texts: { "NAME" = "VALUE" }'


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[server]. `load` replaces an empty `public_url` with one from host and port."""

    host: Annotated[_Text, Meta(extra={"rule": rules.host})] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    public_url: Annotated[str, Meta(extra={"rule": rules.public_url})] = ""
    max_body_bytes: _Bytes = 4_194_304
    body_read_seconds: _Seconds = 30.0
    buffered_bytes_max: _TotalBytes = 134_217_728
    connections_per_client_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_048
    shutdown_seconds: Annotated[int, Meta(ge=1, le=SECONDS_MAX)] = 25
    streaming: bool = False
    stream_hold_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    streams_max: Annotated[int, Meta(ge=1, le=100_000)] = 5_000
    unread_bytes_max: _TotalBytes = 134_217_728
    trusted_proxies: Annotated[tuple[_Text, ...], Meta(extra={"rule": rules.networks})] = ("127.0.0.1", "::1")
    cors_origins: Annotated[tuple[_Text, ...], Meta(extra={"rule": rules.origins})] = ()


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[database]. All settings but `url` apply to PostgreSQL. A relative path in `url` starts at `folder`."""

    url: Annotated[_Text, Meta(extra={"rule": rules.database_url, "may_be_reference": True})] = "sqlite:///tok0n.db"
    pool_size: Annotated[int, Meta(ge=1, le=1_000)] = 10
    connect_timeout_seconds: _Seconds = 5.0
    statement_timeout_seconds: _Seconds = 10.0
    lock_timeout_seconds: _Seconds = 5.0
    folder: Path = Path()

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL instead of the embedded SQLite."""
        return self.url.startswith(POSTGRES_SCHEMES)

    @property
    def is_shared(self) -> bool:
        """Whether several servers can use the database at once."""
        return self.is_postgres

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded database."""
        assert not self.is_postgres
        return self.folder / self.url.removeprefix(SQLITE_PREFIX)


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[limits]."""

    backend: Annotated[_Text, Meta(extra={"rule": rules.backend_url, "may_be_reference": True})] = MEMORY
    requests_per_minute_per_key: _Rate = 60
    concurrent_requests_per_account: Annotated[_Rate, Meta(extra={"old_name": "concurrent_requests_per_user"})] = 10
    upstream_requests_per_minute: _Rate = 55

    @property
    def is_redis(self) -> bool:
        """Whether the limiter uses Redis, which several servers can share."""
        return self.backend.startswith(REDIS_SCHEMES)


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[upstreams.NAME]. `timeout_seconds` is the deadline of a whole response, including the time to connect.

    The default of `idle_seconds` is below the idle timeout of uvicorn and Node, 5 seconds. `load` makes `ca_file`
    absolute, and sets `connections_max` if it is missing.
    """

    base_url: Annotated[_Text, Meta(extra={"rule": rules.url})]
    api_key: Secret | None = None
    timeout_seconds: _Seconds = 120.0
    stream_seconds: _StreamSeconds = 1_800.0
    stream_idle_seconds: _StreamSeconds = 600.0
    continuous_usage: bool = False
    connect_seconds: _Seconds = 10.0
    body_bytes_max: _Bytes = 16_777_216
    connections_max: Annotated[int, Meta(ge=1, le=200_000)] | None = None
    idle_seconds: _Seconds = 4.0
    reuse_connections: bool = True
    auth: Literal["bearer", "api-key", "x-api-key", "none"] = "bearer"
    query: Annotated[dict[str, _Text], Meta(extra={"expected": _QUERY})] = {}
    headers: Headers = Headers({})
    proxy_url: Annotated[_Text, Meta(extra={"rule": rules.proxy_url, "may_be_reference": True})] | None = None
    ca_file: _Text | None = None


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[models.ID]. `load` sets `upstream_model` and `default_output_tokens` if they are missing.

    `endpoints` are names in `domain.endpoints.BY_NAME`. `max_output_tokens` may be missing only from a model on whose
    endpoints no request has an output limit, such as embeddings.
    """

    upstream: _Text
    upstream_model: _Text | None = None
    endpoints: Annotated[tuple[_Text, ...], Meta(min_length=1)] = ("chat",)
    context_window_tokens: _Tokens | None = None
    max_output_tokens: _Tokens | None = None
    default_output_tokens: _Tokens | None = None
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    bound: Annotated[Literal["bytes"], Meta(extra={"notice": "has no effect. Remove it."})] = "bytes"
    image_tokens_max: _Tokens | None = None
    audio_tokens_max: _Tokens | None = None
    file_tokens_max: _Tokens | None = None
    extra_fields: tuple[_Text, ...] = ()
    tools_max: Annotated[int, Meta(ge=1, le=10_000)] = 128
    stop_sequences_max: Annotated[int, Meta(ge=1, le=10_000)] = 4
    reasoning_tokens_max: Annotated[int, Meta(ge=0, le=TOKENS_MAX)] = 0
    verify_output_tokens: _Tokens = 16
    owned_by: _Text = "tok0n"
    token_class: _Text = STANDARD
    hosted_tools: Literal["drop", "refuse"] = "drop"
    anthropic_betas: tuple[_Text, ...] | None = None


class TokenClassSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[token_classes.ID]. `standard` exists without a table."""

    title: Annotated[str, Meta(min_length=1, max_length=100, extra={"rule": rules.title})]


class CatalogueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[catalogue]."""

    verify_interval_hours: Annotated[int, Meta(ge=1, le=8_760)] = 24
    verify_timeout_seconds: _Seconds = 30.0


class LogsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[logs]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class AccountsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[accounts]."""

    registration: Literal["open", "invite", "closed"] = "open"
    welcome_tokens: Annotated[int, Meta(ge=0, le=TOKENS_MAX)] = 0
    welcome_grants_per_day: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    rejected_requests_days: Annotated[int, Meta(ge=0, le=90)] = 7


class MailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[mail]. Without a host, Tok0n writes emails to the log."""

    host: Annotated[str, Meta(extra={"rule": rules.host})] = ""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = ""
    username: str = ""
    password: Secret | None = None
    timeout_seconds: _Seconds = 20.0


class PackSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[packs.ID]. The price is a decimal string, because a float would lose cents."""

    name: _Text
    tokens: _Tokens
    price_usd: Annotated[
        str,
        Meta(
            pattern=r"\A[0-9]{1,6}(\.[0-9]{2})?\Z",
            extra={"rule": rules.price, "expected": 'a price in quotes, with two decimals: "5.00"'},
        ),
    ]
    token_class: _Text = STANDARD
    active: bool = True

    @property
    def price_usd_cents(self) -> int:
        """The price in cents."""
        dollars, _, cents = self.price_usd.partition(".")
        return int(dollars) * 100 + int(cents or "0")


class PaymentsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[payments]: Stripe. Without this section, customers can't buy tokens."""

    secret_key: Secret
    webhook_secret: Secret
    automatic_tax: bool = False
    promotion_codes: bool = False


class SellerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[seller]: the seller on receipts."""

    name: str = ""
    address: str = ""
    email: str = ""
    tax_id: str = ""


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[site]: the brand on pages and in emails. `load` makes `logo` absolute."""

    name: Annotated[str, Meta(min_length=1, max_length=60, extra={"rule": rules.title})] = "Tok0n"
    tagline: Annotated[str, Meta(max_length=200, extra={"rule": rules.title})] = "Every token accounted for."
    logo: str = ""
    accent_color: Annotated[str, Meta(extra={"rule": rules.color})] = ""
    support_email: Annotated[str, Meta(extra={"rule": rules.email_address})] = ""
    terms_url: Annotated[str, Meta(extra={"rule": rules.web_page})] = ""
    privacy_url: Annotated[str, Meta(extra={"rule": rules.web_page})] = ""
    imprint_url: Annotated[str, Meta(extra={"rule": rules.web_page})] = ""
    show_powered_by: bool = True


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, and warnings about them for the operator."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    limits: LimitsSettings = LimitsSettings()
    upstreams: dict[str, UpstreamSettings] = {}
    token_classes: dict[str, TokenClassSettings] = {}
    models: dict[str, ModelSettings] = {}
    catalogue: CatalogueSettings = CatalogueSettings()
    logs: LogsSettings = LogsSettings()
    accounts: AccountsSettings = AccountsSettings()
    mail: MailSettings = MailSettings()
    packs: dict[str, PackSettings] = {}
    payments: PaymentsSettings | None = None
    seller: SellerSettings = SellerSettings()
    site: SiteSettings = SiteSettings()
    warnings: tuple[SettingsProblem, ...] = ()


TABLES: dict[str, type[msgspec.Struct]] = {
    "upstreams": UpstreamSettings,
    "token_classes": TokenClassSettings,
    "models": ModelSettings,
    "packs": PackSettings,
}
"""The sections that have a table for each ID."""

SECTIONS: dict[str, type[msgspec.Struct]] = {"payments": PaymentsSettings} | {
    field.name: type(field.default)
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.default, msgspec.Struct)
}
"""All other sections."""


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    """Return the settings of a section by name, without the derived `DatabaseSettings.folder`."""
    return {field.name: field for field in msgspec.structs.fields(struct) if field.name != "folder"}


@functools.cache
def old_names_of(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Map the old names that a section still accepts to the current names."""
    extras = {name: type_of(field)[1] for name, field in fields_of(struct).items()}
    return {extra["old_name"]: name for name, extra in extras.items() if "old_name" in extra}


def default_of(field: FieldInfo) -> Any:
    """Return the default of a setting that is not required."""
    assert not field.required
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def type_of(field: FieldInfo) -> tuple[inspect.Type, dict[str, Any]]:
    """Return the type of a setting, without its None, and its `Meta.extra`."""
    info = inspect.type_info(field.type)
    if isinstance(info, inspect.UnionType):
        info = next(member for member in info.types if not isinstance(member, inspect.NoneType))
    return (info.type, info.extra or {}) if isinstance(info, inspect.Metadata) else (info, {})
