"""Check the settings against this machine: secrets, files, folders and installed packages."""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from tok0n.optional_imports import is_installed
from tok0n.settings.convert import SettingsTable
from tok0n.settings.problems import SettingsInvalid, SettingsProblem
from tok0n.settings.rules import POSTGRES_SCHEMES, REDIS_SCHEMES
from tok0n.settings.schema import SECTIONS, TABLES, DatabaseSettings, Settings
from tok0n.settings.secret import Headers, Secret

LOGO_SUFFIXES = (".png", ".svg")
LOGO_BYTES_MAX = 100_000


def find_machine_problems(settings: Settings) -> list[SettingsProblem]:
    """Return errors that `load` can't detect. Reads secrets and certificates, and checks the database's folder."""
    tables = [
        SettingsTable(section=section, values=msgspec.structs.asdict(part))
        for section in SECTIONS
        if (part := getattr(settings, section)) is not None
    ]
    for section in TABLES:
        parts = getattr(settings, section).items()
        tables += (SettingsTable(section=section, id=id_, values=msgspec.structs.asdict(part)) for id_, part in parts)
    return list(machine_problems(tables, folder=settings.database.folder))


def machine_problems(tables: list[SettingsTable], *, folder: Path) -> Iterator[SettingsProblem]:
    """Yield errors and warnings about this machine. Relative paths start at `folder`."""
    for table in tables:
        for value in table.values.values():
            for secret in value.secrets if isinstance(value, Headers) else [value]:
                if isinstance(secret, Secret):
                    yield from _secret_problems(secret)
        for key, check_value in _CHECKS.get(table.section, {}).items():
            value = table.values.get(key)
            if value is not None and (message := check_value(value, folder)) is not None:
                yield SettingsProblem(where=f"{table.where}.{key}", message=message)
    sections = {table.section for table in tables}
    if "payments" in sections and (message := _missing_package("stripe", extra="stripe")) is not None:
        yield SettingsProblem(where="payments", message=message)
    for section, message in _WARNINGS.items():
        if section not in sections and (section != "packs" or "payments" in sections):
            yield SettingsProblem(where=section, message=message, severity="warning")


_WARNINGS = {
    "upstreams": "no upstream is declared, so Tok0n rejects every request. Add [upstreams.NAME].",
    "models": "no model is declared, so Tok0n rejects every request. Add [models.ID].",
    "packs": "no pack is declared, so nothing is for sale. Add [packs.ID].",
}


def _secret_problems(secret: Secret) -> list[SettingsProblem]:
    try:
        secret.resolve()
    except SettingsInvalid as error:
        return error.problems
    return []


def _check_ca_file(text: str, folder: Path) -> str | None:
    path = folder / Path(text).expanduser()
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return f"the file {path} contains no certificates in PEM format."
    except OSError as error:
        return f"the file {path} can't be read: {error.strerror}."
    return None


def _check_logo(text: str, folder: Path) -> str | None:
    if not text:
        return None
    path = folder / Path(text).expanduser()
    if path.suffix.lower() not in LOGO_SUFFIXES:
        return f"must be the name of a file that ends with {' or '.join(LOGO_SUFFIXES)}."
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        return f"the file {path} can't be read: {error.strerror}."
    if size > LOGO_BYTES_MAX:
        return f"the file {path} has {size} bytes. It may have at most {LOGO_BYTES_MAX}, as every visitor loads it."
    return None


def _check_database_url(url: str, folder: Path) -> str | None:
    if url.startswith(POSTGRES_SCHEMES):
        return _missing_package("asyncpg", extra="postgres")
    path = DatabaseSettings(url=url, folder=folder).sqlite_path.absolute()
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist. Create it."
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"the folder {path.parent} is not writable."
    if path.is_dir():
        return f"{path} is a folder. Name a file."
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"the file {path} is not readable and writable."
    return None


def _check_backend(url: str, _: Path) -> str | None:
    return _missing_package("redis", extra="redis") if url.startswith(REDIS_SCHEMES) else None


def _missing_package(module: str, *, extra: str) -> str | None:
    return None if is_installed(module) else f"needs the package {module}: pip install 'tok0n[{extra}]'."


_CHECKS: Mapping[str, Mapping[str, Callable[[str, Path], str | None]]] = {
    "database": {"url": _check_database_url},
    "limits": {"backend": _check_backend},
    "site": {"logo": _check_logo},
    "upstreams": {"ca_file": _check_ca_file},
}
"""The checks return what is wrong with a value, or None. Relative paths start at the second argument."""
