"""Every setting with its type, range and default. docs/configuration.md tells people the same; a test compares them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tok0n.domain.usage import TOKENS_MAX
from tok0n.settings.faults import Fault, SettingsInvalid

RATE_MAX = 10_000_000
SECONDS_MAX = 3_600

_Rate = Annotated[int, msgspec.Meta(ge=1, le=RATE_MAX)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)]
_Bytes = Annotated[int, msgspec.Meta(ge=1024, le=2**30)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Secret:
    """A reference to a secret: `env:NAME` or `file:PATH`. It never shows what it refers to."""

    def __init__(self, reference: str, *, where: str, environ: dict[str, str], folder: Path) -> None:
        self._reference = reference
        self._where = where
        self._environ = environ
        self._folder = folder

    def __repr__(self) -> str:
        return f"Secret({self._reference!r})"

    def resolve(self) -> str:
        """The secret itself. Raises `SettingsInvalid` when it is not there or empty."""
        kind, _, name = self._reference.partition(":")
        if kind == "env":
            value = self._environ.get(name, "").strip()
            if not value:
                raise self._invalid(f"the environment variable {name} is not set. Set it, also in .env if you like.")
            return value
        path = self._folder / Path(name).expanduser()
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise self._invalid(f"the file {path} cannot be read ({type(error).__name__}).") from None
        if not value:
            raise self._invalid(f"the file {path} is empty.")
        return value

    def _invalid(self, message: str) -> SettingsInvalid:
        return SettingsInvalid([Fault(where=self._where, message=message)])


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """[server]."""

    host: _Text = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    public_url: str = ""
    max_body_bytes: _Bytes = 4_194_304
    body_read_seconds: _Seconds = 30.0
    shutdown_seconds: Annotated[int, msgspec.Meta(ge=1, le=SECONDS_MAX)] = 25


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """[database]. `folder` is what a relative path in `url` is relative to."""

    url: _Text = "sqlite:///tok0n.db"
    folder: Path = Path()

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded database."""
        return self.folder / self.url.removeprefix("sqlite:///")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """[limits]."""

    backend: _Text = "memory://"
    requests_per_minute_per_key: _Rate = 60
    concurrent_requests_per_user: _Rate = 10
    upstream_requests_per_minute: _Rate = 55


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """[upstreams.NAME]."""

    base_url: _Text
    api_key: Secret | None = None
    timeout_seconds: _Seconds = 120.0
    connect_seconds: _Seconds = 10.0
    body_bytes_max: _Bytes = 16_777_216
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 2_000
    headers: dict[str, str] = {}
    proxy_url: str | None = None
    ca_file: str | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """[models.ID]."""

    upstream: _Text
    upstream_model: str = ""
    context_window_tokens: _Tokens | None = None
    max_output_tokens: _Tokens
    default_output_tokens: _Tokens | None = None
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    bound: Literal["bytes"] = "bytes"
    image_tokens_max: _Tokens | None = None
    audio_tokens_max: _Tokens | None = None
    file_tokens_max: _Tokens | None = None
    extra_fields: tuple[str, ...] = ()
    owned_by: _Text = "tok0n"


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """[catalogue]."""

    verify_interval_hours: Annotated[int, msgspec.Meta(ge=1, le=8760)] = 24
    verify_timeout_seconds: _Seconds = 30.0


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """[logs]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """[packs.ID]. The price is a decimal string, so that no cent is lost in a float."""

    name: _Text
    tokens: _Tokens
    price_usd: Annotated[str, msgspec.Meta(pattern=r"^\d{1,6}\.\d{2}$")]
    active: bool = True

    @property
    def price_usd_cents(self) -> int:
        """The price in cents."""
        return int(self.price_usd.replace(".", ""))


class Payments(msgspec.Struct, frozen=True, kw_only=True):
    """[payments]."""

    secret_key: Secret
    webhook_secret: Secret


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    server: Server = Server()
    database: Database = Database()
    limits: Limits = Limits()
    upstreams: dict[str, Upstream] = {}
    models: dict[str, Model] = {}
    catalogue: Catalogue = Catalogue()
    logs: Logs = Logs()
    packs: dict[str, Pack] = {}
    payments: Payments | None = None


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": Server,
    "database": Database,
    "limits": Limits,
    "catalogue": Catalogue,
    "logs": Logs,
    "payments": Payments,
}
"""The sections that there is one of."""

TABLES: dict[str, type[msgspec.Struct]] = {"upstreams": Upstream, "models": Model, "packs": Pack}
"""The sections that hold a table for each id."""

NOT_WRITTEN = {("database", "folder")}
"""Fields that are derived, and are no settings."""


def fields_of(section: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The settings of a section with their types, by name."""
    fields = msgspec.structs.fields(struct)
    return {field.name: field for field in fields if (section, field.name) not in NOT_WRITTEN}
