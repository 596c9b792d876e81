"""From flags, environment, `.env` and file to `Settings`: each value on its own, so that every fault is found."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tok0n.settings.check import cross_check
from tok0n.settings.faults import Fault, SettingsInvalid, nearest
from tok0n.settings.schema import SECTIONS, TABLES, Secret, Settings, fields_of

DEFAULT_PATH = Path("tok0n.toml")
ENVIRONMENT_PREFIX = "TOK0N_"
NOT_SETTINGS = frozenset({"TOK0N_CONFIG", "TOK0N_API_KEY", "TOK0N_BASE_URL"})
"""Variables of ours that are no settings: the file's path, and what customers use in snippets."""

_SECRET_REFERENCE = re.compile(r"(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def load(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> Settings:
    """The settings. `overrides` ("server.port": 9000) > `environ` > `dotenv` > the file at `path` > defaults.

    Without a path, tok0n.toml in the current folder is read if it is there. Raises `SettingsInvalid` with all faults.
    """
    variables = {**dotenv, **environ}
    raw, folder = _read_file(path)
    parser = _Parser(raw, variables, folder)
    parser.apply_environment()
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        parser.raw.setdefault(section, {})[key] = value
    return parser.settings()


def _read_file(path: Path | None) -> tuple[dict[str, Any], Path]:
    if path is None:
        path = DEFAULT_PATH
        if not path.exists():
            return {}, Path()
    try:
        return tomllib.loads(path.read_text("utf-8")), path.parent
    except FileNotFoundError:
        message = "there is no such file. `tok0n init` writes one."
    except OSError as error:
        message = f"it cannot be read: {error.strerror}."
    except UnicodeDecodeError:
        message = "it is not UTF-8 text."
    except tomllib.TOMLDecodeError as error:
        message = f"it is not valid TOML: {error}."
    raise SettingsInvalid([Fault(where=str(path), message=message)])


class _Parser:
    """Walks what was written, and collects faults instead of stopping at one."""

    def __init__(self, raw: dict[str, Any], variables: dict[str, str], folder: Path) -> None:
        self.raw = raw
        self.faults: list[Fault] = []
        self._variables = variables
        self._folder = folder
        self._from_environment: dict[str, str] = {}

    def fault(self, where: str, message: str) -> None:
        """Note what is wrong."""
        self.faults.append(Fault(where=self._from_environment.get(where, where), message=message))

    def settings(self) -> Settings:
        """All sections, converted and compared with one another."""
        known = [*SECTIONS, *TABLES]
        for section in self.raw.keys() - set(known):
            self.fault(section, f"there is no such section. {nearest(section, known)}")
        parsed: dict[str, Any] = {}
        for section, struct in SECTIONS.items():
            if section in self.raw:
                parsed[section] = self._struct(section, section, struct, self.raw[section])
        for section, struct in TABLES.items():
            parsed[section] = dict(self._table(section, struct))
        if self.faults:
            raise SettingsInvalid(self.faults)
        database = msgspec.structs.replace(parsed.get("database") or Settings().database, folder=self._folder)
        settings = cross_check(Settings(**parsed | {"database": database}), self.faults)
        if self.faults:
            raise SettingsInvalid(self.faults)
        return settings

    def apply_environment(self) -> None:
        """Lay TOK0N_SECTION__KEY and TOK0N_SECTION__ID__KEY over the file."""
        for variable in sorted(self._variables):
            if variable.startswith(ENVIRONMENT_PREFIX) and variable not in NOT_SETTINGS:
                self._apply(variable, variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))

    def _apply(self, variable: str, path: list[str]) -> None:
        section, *rest = path
        if section in SECTIONS and len(rest) == 1:
            self._lay(variable, section, self._target(section), rest[0], SECTIONS[section])
        elif section in TABLES and len(rest) == 2:
            table = self._target(section)
            ids = [id_ for id_ in table if _as_variable(id_) == rest[0]]
            if len(ids) > 1:
                self.fault(variable, f"it could mean {' or '.join(map(repr, ids))}: set that in the file.")
                return
            id_ = ids[0] if ids else rest[0]
            target = table.setdefault(id_, {})
            if isinstance(target, dict):
                self._lay(variable, _where(section, id_), target, rest[1], TABLES[section], section=section)
        else:
            self.fault(variable, f"there is no such setting. {nearest(variable, self._known_variables())}")

    def _target(self, section: str) -> dict[str, Any]:
        target = self.raw.setdefault(section, {})
        return target if isinstance(target, dict) else {}

    def _lay(
        self,
        variable: str,
        where: str,
        target: dict[str, Any],
        key: str,
        struct: type[msgspec.Struct],
        *,
        section: str = "",
    ) -> None:
        field = fields_of(section or where, struct).get(key)
        if field is None:
            self.fault(variable, f"there is no such setting. {nearest(variable, self._known_variables())}")
            return
        self._from_environment[f"{where}.{key}"] = variable
        target[key] = _from_text(self._variables[variable], field.type)

    def _known_variables(self) -> Iterator[str]:
        for section, struct in SECTIONS.items():
            for key in fields_of(section, struct):
                yield f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()
        for section, struct in TABLES.items():
            for id_ in self._target(section):
                for key in fields_of(section, struct):
                    yield f"{ENVIRONMENT_PREFIX}{section}__{_as_variable(id_)}__{key}".upper()

    def _table(self, section: str, struct: type[msgspec.Struct]) -> Iterator[tuple[str, msgspec.Struct]]:
        table = self.raw.get(section, {})
        if not isinstance(table, dict):
            self.fault(section, f"write a table for each id: [{section}.ID].")
            return
        for id_, raw in table.items():
            parsed = self._struct(section, _where(section, id_), struct, raw)
            if parsed is not None:
                yield id_, parsed

    def _struct(self, section: str, where: str, struct: type[msgspec.Struct], raw: Any) -> msgspec.Struct | None:
        if not isinstance(raw, dict):
            self.fault(where, f"write it as a table: [{where}].")
            return None
        fields = fields_of(section, struct)
        for key in raw.keys() - fields.keys():
            self.fault(f"{where}.{key}", f"there is no such setting. {nearest(key, fields)}")
        before = len(self.faults)
        values = {key: self._value(f"{where}.{key}", raw[key], fields[key].type) for key in fields if key in raw}
        for key, field in fields.items():
            if field.required and key not in raw:
                self.fault(f"{where}.{key}", "this setting is missing.")
        return struct(**values) if len(self.faults) == before else None

    def _value(self, where: str, raw: Any, kind: Any) -> Any:
        if kind in {Secret, Secret | None}:
            return self._secret(where, raw)
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            self.fault(where, _in_words(str(error)))
            return None

    def _secret(self, where: str, raw: Any) -> Secret | None:
        """The value itself is never repeated: it may be a key that was pasted here."""
        if isinstance(raw, str) and _SECRET_REFERENCE.fullmatch(raw):
            return Secret(raw, where=where, environ=self._variables, folder=self._folder)
        self.fault(where, 'secrets are not written here: name one as "env:NAME" or "file:PATH".')
        return None


def _where(section: str, id_: str) -> str:
    return f"{section}.{id_}" if _BARE_KEY.fullmatch(id_) else f'{section}."{id_}"'


def _as_variable(id_: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", id_.lower())


def _from_text(text: str, kind: Any) -> Any:
    """A value of the environment as the file would have it: a list or table as JSON, or a list with commas."""
    if text[:1] in {"[", "{"}:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    if kind == tuple[str, ...]:
        return [item.strip() for item in text.split(",") if item.strip()]
    for plain in (int, float, bool):
        try:
            value = msgspec.convert(text, plain, strict=False)
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            continue
        return value
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) and not _takes_text(kind) else text


def _takes_text(kind: Any) -> bool:
    try:
        msgspec.convert("text", kind)
    except msgspec.ValidationError as error:
        return "got `str`" not in str(error)
    return True


_WORDS = (
    (re.compile(r"^Expected `int` ([<>]=?) (\S+).*"), r"it must be a whole number \1 \2."),
    (re.compile(r"^Expected `float` ([<>]=?) (\S+).*"), r"it must be a number \1 \2."),
    (re.compile(r"^Expected `int(?: \| null)?`, got `(\w+)`.*"), r"it must be a whole number, not \1."),
    (re.compile(r"^Expected `float(?: \| null)?`, got `(\w+)`.*"), r"it must be a number, not \1."),
    (re.compile(r"^Expected `bool`, got `(\w+)`.*"), r"it must be true or false, not \1."),
    (re.compile(r"^Expected `str(?: \| null)?`, got `(\w+)`.*"), r"it must be text in quotes, not \1."),
    (re.compile(r"^Expected `array`, got `(\w+)`.*"), r"it must be a list, not \1."),
    (re.compile(r"^Expected `object`, got `(\w+)`.*"), r"it must be a table, not \1."),
    (re.compile(r"^Expected `str` of length >= 1.*"), "it must not be empty."),
    (re.compile(r"^Expected `str` matching regex.*"), 'write it with two decimals, in quotes: "5.00".'),
    (re.compile(r"^Invalid enum value (.*)"), r"\1 is not possible here."),
)


def _in_words(message: str) -> str:
    for pattern, words in _WORDS:
        if pattern.match(message):
            return pattern.sub(words, message)
    return message
