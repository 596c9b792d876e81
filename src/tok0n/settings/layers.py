"""Lay flags over the environment over the file, name by name. Converts nothing: the values are as they were written."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tok0n.settings.faults import Fault, SettingsInvalid, nearest
from tok0n.settings.schema import SECTIONS, TABLES, fields_of

DEFAULT_PATH = Path("tok0n.toml")
ENVIRONMENT_PREFIX = "TOK0N_"
NOT_SETTINGS = frozenset({"TOK0N_CONFIG", "TOK0N_API_KEY", "TOK0N_BASE_URL", "TOK0N_OPERATOR_KEY"})
"""Variables of ours that are no settings: the path of the file, and what customers and operators use in snippets."""

_SERVICE = re.compile(r"TOK0N_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_\w+)")
_SERVICE_PORT = re.compile(r"TOK0N_(?:\w+_)?PORT")
_SERVICE_SCHEMES = ("tcp://", "udp://", "sctp://")
"""What Kubernetes sets in every container beside a service named `tok0n` or `tok0n-…`."""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A value that an environment variable gives: always text."""

    name: str
    text: str


def read_file(path: Path | None) -> tuple[dict[str, Any], Path]:
    """What the file says, and its folder. Without a path: tok0n.toml in the current folder, if it is there.

    Raises `SettingsInvalid` when the file cannot be read as TOML.
    """
    if path is None:
        path = DEFAULT_PATH
        if not path.exists():
            return {}, Path.cwd()
    try:
        return tomllib.loads(path.read_text("utf-8-sig")), path.parent.absolute()
    except FileNotFoundError:
        message = "there is no such file. `tok0n init` writes one."
    except OSError as error:
        message = f"it cannot be read: {error.strerror}."
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 text: see the byte at offset {error.start}."
    except tomllib.TOMLDecodeError as error:
        message = f"it is not valid TOML: {error}."
    except RecursionError:
        message = "it is nested too deeply."
    except ValueError:
        message = "it holds a number that is too long."
    raise SettingsInvalid([Fault(where=str(path), message=message)])


def lay_environment(raw: dict[str, Any], variables: Mapping[str, str]) -> Iterator[Fault]:
    """Lay TOK0N_SECTION__KEY and TOK0N_SECTION__ID__KEY over `raw`. An empty variable counts as not set."""
    known = list(_known_variables(raw))
    for name in sorted(variables):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS:
            continue
        section, id_part, key = _read_name(name)
        if key is None:
            if _is_of_kubernetes(name, variables[name]):
                continue
            yield Fault(where=name, message=f"there is no such setting. {nearest(name, known)}")
        elif text := variables[name].strip():
            value = Variable(name=name, text=text)
            if id_part is None:
                _lay(raw, (section, key), value)
                continue
            ids = [id_ for id_ in _table(raw, section) if as_variable(id_) == id_part]
            if len(ids) > 1:
                yield Fault(
                    where=name,
                    message=f"it could mean {' or '.join(ids)}: set it in the file, where they can be told apart.",
                )
            else:
                _lay(raw, (section, ids[0] if ids else id_part, key), value)


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes sets this variable for a service."""
    if _SERVICE.fullmatch(name):
        return True
    return _SERVICE_PORT.fullmatch(name) is not None and value.strip().lower().startswith(_SERVICE_SCHEMES)


def lay_flags(raw: dict[str, Any], overrides: Mapping[str, object]) -> None:
    """Lay what the command line says over everything: "server.port", or "models.ID.key" with any id."""
    for name, value in overrides.items():
        section, _, rest = name.partition(".")
        id_, dot, key = rest.rpartition(".") if section in TABLES else ("", "", rest)
        _lay(raw, (section, id_, key) if dot else (section, key), value)


def as_variable(id_: str) -> str:
    """An id as it is written in the name of an environment variable, in lower case."""
    return re.sub(r"[^a-z0-9]", "_", id_.lower())


def _read_name(name: str) -> tuple[str, str | None, str | None]:
    """The section, id and key that a variable's name stands for; the key is None when there is no such setting."""
    section, _, rest = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
    if section in SECTIONS and rest in fields_of(SECTIONS[section]):
        return section, None, rest
    for key in fields_of(TABLES[section]) if section in TABLES else ():
        id_part = rest.removesuffix(f"__{key}")
        if id_part and id_part != rest:
            return section, id_part, key
    return section, None, None


def _known_variables(raw: dict[str, Any]) -> Iterator[str]:
    for section, struct in SECTIONS.items():
        for key in fields_of(struct):
            yield f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()
    for section, struct in TABLES.items():
        for id_ in _table(raw, section) or {"ID": {}}:
            for key in fields_of(struct):
                yield f"{ENVIRONMENT_PREFIX}{section}__{as_variable(id_)}__{key}".upper()


def _table(raw: dict[str, Any], section: str) -> dict[str, Any]:
    table = raw.get(section, {})
    return table if isinstance(table, dict) else {}


def _lay(raw: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """What should be a table and is not stays as it is: it is found wrong later."""
    *tables, key = path
    table: Any = raw
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return
    table[key] = value
