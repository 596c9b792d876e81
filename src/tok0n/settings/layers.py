"""Merge the command line, the environment and the file, without converting values."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tok0n.settings.problems import SettingsInvalid, SettingsProblem, nearest
from tok0n.settings.schema import SECTIONS, TABLES, fields_of, old_names_of

DEFAULT_PATH = Path("tok0n.toml")
ENVIRONMENT_PREFIX = "TOK0N_"
NOT_SETTINGS = frozenset({"TOK0N_CONFIG", "TOK0N_API_KEY", "TOK0N_BASE_URL", "TOK0N_OPERATOR_KEY"})
"""Variables of Tok0n that are not settings: the path of the file, and variables for clients and snippets."""

_KUBERNETES = re.compile(
    r"TOK0N_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+)=.*"
    r"|TOK0N_(\w+_)?PORT=\s*(?i:tcp|udp|sctp)://.*",
    re.DOTALL,
)
"""Variables that Kubernetes sets in every container for a service named `tok0n` or `tok0n-…`."""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A value from the environment, which is always text. `origin` names the variable and its file, if any."""

    origin: str
    text: str


def read_file(path: Path | None) -> tuple[dict[str, Any], Path]:
    """Return the contents of the file and its folder. Without a path, tok0n.toml in the current folder may be missing.

    Raises `SettingsInvalid` if the file is not readable TOML.
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
        message = f"it can't be read: {error.strerror}."
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 text. The byte at offset {error.start} is invalid."
    except tomllib.TOMLDecodeError as error:
        message = f"it is not valid TOML: {error}."
    except RecursionError:
        message = "it has too many levels of nesting."
    except ValueError:
        message = "it contains a number that is too long."
    raise SettingsInvalid([SettingsProblem(where=str(path), message=message)])


def apply_environment(
    raw: dict[str, Any], *, environ: Mapping[str, str], dotenv: Mapping[str, str]
) -> Iterator[SettingsProblem]:
    """Set TOK0N_SECTION__KEY and TOK0N_SECTION__ID__KEY in `raw`. An empty variable counts as unset."""
    variables = list(_variables_of(raw))
    for name, value in sorted({**dotenv, **environ}.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS:
            continue
        path = _path_of(name)
        if path is None:
            if not _KUBERNETES.fullmatch(f"{name}={value}"):
                yield SettingsProblem(where=name, message=f"there is no such setting. {nearest(name, variables)}")
        elif text := value.strip():
            section, *id_part, key = path
            ids = [id_ for id_ in table_of(raw, section) if id_part == [as_variable(id_)]] or id_part
            if len(ids) > 1:
                message = f"it could mean {' or '.join(ids)}. Set it in the file instead."
                yield SettingsProblem(where=name, message=message)
            else:
                origin = name if name in environ else f"{name} in .env"
                _set(raw, (section, *ids, key), Variable(origin=origin, text=text))


def apply_flags(raw: dict[str, Any], overrides: Mapping[str, object]) -> None:
    """Set values from the command line in `raw`. Names are "server.port", or "models.ID.key" with any ID."""
    for name, value in overrides.items():
        section, _, path = name.partition(".")
        id_, dot, key = path.rpartition(".") if section in TABLES else ("", "", path)
        _set(raw, (section, id_, key) if dot else (section, key), value)


def as_variable(id_: str) -> str:
    """Return the spelling of an ID in a variable's name, in lower case."""
    return re.sub(r"[^a-z0-9]", "_", id_.lower())


def table_of(raw: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return a section, or an empty table if it is not a table, which the conversion reports."""
    table = raw.get(section)
    return table if isinstance(table, dict) else {}


def _path_of(name: str) -> tuple[str, ...] | None:
    """Return the section, the ID if there is one, and the key that a variable sets. None if it sets nothing."""
    section, _, path = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
    id_part, has_id, key = path.rpartition("__")
    struct = (TABLES if has_id else SECTIONS).get(section)
    if struct is None or (has_id and not id_part) or key not in fields_of(struct) | old_names_of(struct):
        return None
    return (section, id_part, key) if has_id else (section, key)


def _variables_of(raw: dict[str, Any]) -> Iterator[str]:
    """Yield the name of each variable that sets something, for suggestions."""
    for section, struct in (SECTIONS | TABLES).items():
        ids = [f"{as_variable(id_)}__" for id_ in table_of(raw, section) or ["ID"]] if section in TABLES else [""]
        for prefix in ids:
            for key in fields_of(struct):
                yield f"{ENVIRONMENT_PREFIX}{section}__{prefix}{key}".upper()


def _set(raw: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Set one value. Does nothing if a parent is not a table, which the conversion reports."""
    *tables, key = path
    table: Any = raw
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return
    table[key] = value
