"""What one value alone cannot tell: whether the settings fit together, and whether they fit this machine."""

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tok0n.domain.email import parse_mailbox
from tok0n.domain.errors import OperatorError
from tok0n.optional_imports import is_installed
from tok0n.settings.convert import Entry
from tok0n.settings.faults import Fault, SettingsInvalid, nearest
from tok0n.settings.schema import (
    MEMORY,
    POSTGRES_SCHEMES,
    REDIS_SCHEMES,
    SECTIONS,
    SQLITE_PREFIX,
    TABLES,
    Database,
    Settings,
    fields_of,
)
from tok0n.settings.secret import Headers, Secret

ID_CHARACTERS_MAX = 128
_ID = re.compile(r"[!-.0-~](?:[!-~]*[!-.0-~])?")
OWN_SEGMENTS = frozenset(
    [
        "assets",
        "dashboard",
        "docs",
        "favicon.ico",
        "healthz",
        "invitation",
        "llms.txt",
        "manage",
        "metrics",
        "new-address",
        "new-password",
        "openapi.json",
        "readyz",
        "reset-password",
        "robots.txt",
        "second-factor",
        "set-up",
        "sign-in",
        "sign-out",
        "sign-up",
        "v1",
        "verify",
        "webhooks",
    ]
)
"""First segments of the paths that Tok0n serves or reserves. The path of `public_url` must not start with one."""

_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")

_ORIGIN_SHAPE = (
    'must be ["*"], or origins as browsers send them, such as ["https://app.example.com", "http://localhost:3000"]:'
    " in lower case, without default port, path and trailing slash."
)

Findings = Iterator[tuple[str, str]]
"""Pairs of a setting's name, or nothing for the table as a whole, and what is wrong with it."""


def cross_faults(entries: list[Entry]) -> Iterator[Fault]:
    """Compare the settings with one another. A value that is wrong by itself is not in `entries` any more."""
    upstreams = [entry.id for entry in entries if entry.section == "upstreams" and entry.id is not None]
    for entry in entries:
        if entry.id is not None and (len(entry.id) > ID_CHARACTERS_MAX or not _ID.fullmatch(entry.id)):
            yield Fault(
                where=entry.where,
                message=f"an id has 1 to {ID_CHARACTERS_MAX} printable ASCII characters,"
                " without spaces, and with no slash at either end.",
            )
        for key, message in _CHECKS.get(entry.section, _nothing)(entry.values):
            yield Fault(where=f"{entry.where}.{key}", message=message)
        upstream = entry.values.get("upstream")
        if upstream is not None and upstream not in upstreams:
            yield Fault(
                where=f"{entry.where}.upstream", message=f"names no declared upstream. {nearest(upstream, upstreams)}"
            )


def check(settings: Settings) -> list[Fault]:
    """Look at this machine too: secrets, files and folders. For `tok0n config check` and `tok0n serve`."""
    return list(machine_faults(list(_entries(settings)), folder=settings.database.folder))


def machine_faults(entries: list[Entry], *, folder: Path) -> Iterator[Fault]:
    """What is wrong here and now, warnings included. Paths that are relative begin at `folder`."""
    for entry in entries:
        yield from _secret_faults(entry)
        ca_file = entry.values.get("ca_file")
        if ca_file is not None and (reason := _why_no_ca_file(folder / Path(ca_file).expanduser())) is not None:
            yield Fault(where=f"{entry.where}.ca_file", message=reason)
        if entry.section == "database" and "url" in entry.values:
            yield from _database_faults(entry.values["url"], folder)
        if entry.section == "payments":
            yield from _extra_faults("payments", module="stripe", extra="stripe")
        if entry.section == "limits" and entry.values.get("backend", MEMORY).startswith(REDIS_SCHEMES):
            yield from _extra_faults("limits.backend", module="redis", extra="redis")
    yield from _warnings({entry.section for entry in entries})


def _warnings(sections: set[str]) -> Iterator[Fault]:
    if "upstreams" not in sections:
        message = "no upstream is declared, so nothing can be answered. Add [upstreams.NAME]."
        yield Fault(where="upstreams", message=message, severity="warning")
    if "models" not in sections:
        message = "no model is declared, so nothing can be called. Add [models.ID]."
        yield Fault(where="models", message=message, severity="warning")
    if "payments" in sections and "packs" not in sections:
        message = "no pack is declared, so nothing is sold. Add [packs.ID]."
        yield Fault(where="packs", message=message, severity="warning")


def _entries(settings: Settings) -> Iterator[Entry]:
    for section, struct in SECTIONS.items():
        part = getattr(settings, section)
        if part is not None:
            yield Entry(section=section, values={key: getattr(part, key) for key in fields_of(struct)})
    for section, struct in TABLES.items():
        for id_, part in getattr(settings, section).items():
            yield Entry(section=section, id=id_, values={key: getattr(part, key) for key in fields_of(struct)})


def _secret_faults(entry: Entry) -> Iterator[Fault]:
    for value in entry.values.values():
        found = value.secrets if isinstance(value, Headers) else [value] if isinstance(value, Secret) else []
        for secret in found:
            try:
                secret.resolve()
            except SettingsInvalid as error:
                yield from error.faults


def _why_no_ca_file(path: Path) -> str | None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return f"the file {path} holds no certificates in PEM form."
    except OSError as error:
        return f"the file {path} cannot be read: {error.strerror}."
    return None


def _database_faults(url: str, folder: Path) -> Iterator[Fault]:
    if url.startswith(POSTGRES_SCHEMES):
        yield from _extra_faults("database.url", module="asyncpg", extra="postgres")
        return
    path = Database(url=url, folder=folder).sqlite_path
    message = None
    if not path.parent.is_dir():
        message = f"the folder {path.parent.absolute()} does not exist. Make it."
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        message = f"the folder {path.parent.absolute()} cannot be written to."
    elif path.is_dir():
        message = f"{path.absolute()} is a folder. Name a file."
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        message = f"the file {path.absolute()} cannot be read and written."
    if message is not None:
        yield Fault(where="database.url", message=message)


def _extra_faults(where: str, *, module: str, extra: str) -> Iterator[Fault]:
    if not is_installed(module):
        yield Fault(where=where, message=f"needs the package {module}: pip install 'tok0n[{extra}]'.")


def _nothing(_: dict[str, Any]) -> Findings:
    yield from ()


def _server(values: dict[str, Any]) -> Findings:
    if not _HOST.fullmatch(values.get("host", "localhost")):
        yield "host", "must be a name or an address alone, such as 127.0.0.1: the port is server.port."
    if values.get("public_url") and (reason := _why_no_public_url(values["public_url"])) is not None:
        yield "public_url", reason
    for network in values.get("trusted_proxies", ()):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield "trusted_proxies", 'must be addresses or networks: ["127.0.0.1", "10.0.0.0/8"].'
    origins = values.get("cors_origins", ())
    if "*" in origins and len(origins) > 1:
        yield "cors_origins", 'must be ["*"] alone, or a list of origins without "*".'
    elif any(origin != "*" and not _is_origin(origin) for origin in origins):
        yield "cors_origins", _ORIGIN_SHAPE


def _mail(values: dict[str, Any]) -> Findings:
    if not values.get("host"):
        return
    if not _HOST.fullmatch(values["host"]):
        yield "host", "must be a name or an address alone: the port is mail.port."
    try:
        parse_mailbox(values.get("sender", ""))
    except OperatorError:
        yield "sender", 'must be one email address, with a name if you like: "Tok0n <noreply@example.com>".'
    if bool(values.get("username")) != (values.get("password") is not None):
        yield "password", "and username go together: give both, or neither."


def _database(values: dict[str, Any]) -> Findings:
    url = values.get("url", Database().url)
    if url.startswith(POSTGRES_SCHEMES):
        if (reason := _why_no_server(url)) is not None or not urlsplit(url).path.strip("/"):
            yield "url", reason or "must name a database: postgresql://USER:PASSWORD@HOST/DATABASE."
        return
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url:
        yield "url", "must be sqlite:///FILE, relative to the settings file, sqlite:////FOLDER/FILE, or postgresql://…"
    elif path.strip("/") in {"", ":memory:"} or any(sign in path for sign in "?#\0"):
        yield "url", "must name a file after sqlite:///, and nothing after it."


def _limits(values: dict[str, Any]) -> Findings:
    backend = values.get("backend", MEMORY)
    if backend.startswith(REDIS_SCHEMES):
        if (reason := _why_no_server(backend)) is not None:
            yield "backend", reason
    elif backend != MEMORY:
        yield "backend", f"must be {MEMORY} or redis://HOST:PORT/NUMBER."


def _upstream(values: dict[str, Any]) -> Findings:
    if "base_url" in values and (reason := _why_no_url(values["base_url"])) is not None:
        yield "base_url", reason
    if values.get("proxy_url") is not None and not _is_proxy(values["proxy_url"]):
        yield "proxy_url", "must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT."
    if values.get("api_key") is not None and "authorization" in map(str.lower, values.get("headers", ())):
        yield "headers", "must not set Authorization: api_key does."


def _model(values: dict[str, Any]) -> Findings:
    most = values.get("max_output_tokens")
    if most is None:
        return
    default = values.get("default_output_tokens")
    if default is not None and default > most:
        yield "default_output_tokens", f"must be {most}, which is max_output_tokens, at the most; it is {default}."
    window = values.get("context_window_tokens")
    if window is not None and most > window:
        yield "max_output_tokens", f"must be {window}, which is context_window_tokens, at the most; it is {most}."


def _pack(values: dict[str, Any]) -> Findings:
    if not values.get("price_usd", "1").strip("0."):
        yield "price_usd", "must be above zero."


_CHECKS: dict[str, Callable[[dict[str, Any]], Findings]] = {
    "server": _server,
    "mail": _mail,
    "database": _database,
    "limits": _limits,
    "upstreams": _upstream,
    "models": _model,
    "packs": _pack,
}


def _why_no_url(text: str) -> str | None:
    """What is wrong with an http(s) address, or None. The address is not repeated: a password may be in it."""
    shape = "must be http://HOST or https://HOST, with a port or a path if there is one."
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return shape
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0 or not _is_plain(text):
        return shape
    if "@" in url.netloc or "?" in text or "#" in text:
        return "must hold no user, password, query or fragment."
    return None


def _why_no_public_url(text: str) -> str | None:
    """What is wrong with the address of this installation, or None."""
    if (reason := _why_no_url(text)) is not None:
        return reason
    path = urlsplit(text).path.removesuffix("/")
    segments = path.split("/")[1:]
    if any(segment in {".", ".."} or not _SEGMENT.fullmatch(segment) for segment in segments):
        return (
            "may have a path of letters, digits and . _ ~ - between single slashes, such as https://example.com/tok0n."
        )
    if segments and segments[0] in OWN_SEGMENTS:
        return f"must not have a path that starts with /{segments[0]}: Tok0n uses it. Choose another, such as /tok0n."
    return None


def _why_no_server(text: str) -> str | None:
    """What is wrong with the address of a server, or None. It is not repeated: a password may be in it."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "is no address: a password must have its special characters percent-encoded."
    if not url.hostname or port == 0 or not _is_plain(text):
        return f"must be {url.scheme}://HOST, with a user, password, port and name as needed."
    return None


def _is_proxy(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return url.scheme == "http" and bool(url.hostname) and port != 0 and url.path in {"", "/"} and _is_plain(text)


def _is_origin(text: str) -> bool:
    """Whether a browser sends this text as `Origin`: lower case, without default port, path and trailing slash."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    is_default = (url.scheme, port) in {("http", 80), ("https", 443)}
    is_exact = text == f"{url.scheme}://{url.netloc}" and text == text.lower() and not url.netloc.endswith(":")
    return bool(url.hostname) and is_exact and not is_default and not re.search("[@*]", text) and _is_plain(text)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not re.search(r'[\s\\"<>]', text)
