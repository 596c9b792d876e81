"""From what was written to typed values, one setting at a time: every fault is found, none hides another."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo

from tok0n.settings.faults import Fault, SettingsInvalid, nearest
from tok0n.settings.layers import Variable
from tok0n.settings.schema import SECRET_URL_TYPES, SECTIONS, TABLES, default_of, fields_of
from tok0n.settings.secret import Headers, Secret, is_reference

OPTIONAL_SECTION = "payments"
HEADERS_OF_OURS = frozenset({"host", "connection", "content-length", "content-type", "transfer-encoding"})
"""Header fields that the upstream client sets, and nobody else may."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NUMBER_SHOWN_MAX = 10**30
_REFERENCE_WANTED = 'must name a secret, as "env:NAME" or "file:PATH"; the secret itself is never written here.'
_YES_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A section, or the table of one id in it. `values` are the settings that are right, defaults included."""

    section: str
    id: str | None = None
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """Its name as the file has it."""
        return where_of(self.section, self.id)


class _Wrong(Exception):
    """A value cannot be what it should be; the message continues the name of the setting."""


class Conversion:
    """Walks what was written. Afterwards `entries` holds what is right and `faults` what is wrong."""

    def __init__(self, raw: dict[str, Any], *, variables: Mapping[str, str], folder: Path) -> None:
        self.entries: list[Entry] = []
        self.faults: list[Fault] = []
        self.origins: dict[str, str] = {}
        self._raw = raw
        self._variables = variables
        self._folder = folder
        self._convert()

    def _convert(self) -> None:
        known = [*SECTIONS, *TABLES]
        for section, raw in self._raw.items():
            if section not in known:
                what = "section" if isinstance(raw, dict) else "setting"
                self._fault(section, f"there is no such {what}. {self._suggest(section, known)}")
        for section, struct in SECTIONS.items():
            if section in self._raw or section != OPTIONAL_SECTION:
                self._entry(section, None, struct, self._raw.get(section, {}))
        for section, struct in TABLES.items():
            table = self._raw.get(section, {})
            if not isinstance(table, dict):
                self._fault(section, f"must be a table for each id: [{section}.ID].")
                continue
            for id_, raw in table.items():
                self._entry(section, id_, struct, raw)

    def _entry(self, section: str, id_: str | None, struct: type[msgspec.Struct], raw: Any) -> None:
        entry = Entry(section=section, id=id_, values={})
        self.entries.append(entry)
        if not isinstance(raw, dict):
            self._fault(entry.where, f"must be a table: [{entry.where}].")
            return
        fields = fields_of(struct)
        for key in raw:
            if key not in fields:
                self._fault(f"{entry.where}.{key}", f"there is no such setting. {self._suggest(key, list(fields))}")
        for key, field in fields.items():
            where = f"{entry.where}.{key}"
            if key in raw:
                try:
                    entry.values[key] = self._value(where, raw[key], field)
                except _Wrong as wrong:
                    self._fault(where, str(wrong))
                except SettingsInvalid as missing:
                    self.faults += missing.faults
            elif field.required:
                self._fault(where, f"is missing.{self._why_made(entry, raw)}")
            else:
                entry.values[key] = default_of(field)

    def _value(self, where: str, raw: Any, field: FieldInfo) -> Any:
        lenient = isinstance(raw, Variable)
        if isinstance(raw, Variable):
            self.origins[where] = raw.name
            raw = _from_text(raw.text, field.type)
        if isinstance(raw, str) and raw.startswith(("env:", "file:")) and field.type in SECRET_URL_TYPES:
            reference = raw
            raw = self._secret(where, raw).resolve()
            self.origins[where] = reference
        if field.type in {Secret, Secret | None}:
            return self._secret(where, raw)
        if field.type is Headers:
            return self._headers(where, raw)
        try:
            return msgspec.convert(raw, field.type, strict=not lenient)
        except msgspec.ValidationError:
            raise _Wrong(f"must be {_expected(field.type)}{_shown(raw)}.") from None

    def _secret(self, where: str, raw: Any) -> Secret:
        """The value is never repeated: it may be a key that was pasted here."""
        if isinstance(raw, str) and is_reference(raw):
            return Secret(raw, where=where, environ=self._variables, folder=self._folder)
        raise _Wrong(_REFERENCE_WANTED)

    def _headers(self, where: str, raw: Any) -> Headers:
        if not isinstance(raw, dict):
            raise _Wrong('must be a table of header fields: { "NAME" = "VALUE" }.')
        return Headers(dict(self._header_fields(where, raw)))

    def _header_fields(self, where: str, raw: dict[str, Any]) -> Iterator[tuple[str, str | Secret]]:
        seen: set[str] = set()
        for name, value in raw.items():
            at = where_of(where, name)
            if not _HEADER_NAME.fullmatch(name):
                self._fault(at, "is no name that a header field can have.")
            elif name.lower() in HEADERS_OF_OURS:
                self._fault(at, "is set by Tok0n itself; leave it out.")
            elif name.lower() in seen:
                self._fault(at, "is given twice: the case of letters makes no difference.")
            elif not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
                self._fault(at, "must be printable ASCII text, or a secret as env:NAME or file:PATH.")
            elif value.startswith(("env:", "file:")):
                try:
                    yield name, self._secret(at, value)
                except _Wrong as wrong:
                    self._fault(at, str(wrong))
            else:
                yield name, value
            seen.add(name.lower())

    def _fault(self, where: str, message: str) -> None:
        self.faults.append(Fault(where=where, message=message))

    def _suggest(self, key: str, known: list[str]) -> str:
        home = self._homes.get(key)
        return f"Did you mean {home}?" if home is not None and key not in known else nearest(key, known)

    @cached_property
    def _homes(self) -> dict[str, str]:
        """Where a key that stands in the wrong section belongs: the first section that has one of that name."""
        homes: dict[str, str] = {}
        for section, struct in SECTIONS.items():
            for key in fields_of(struct):
                homes.setdefault(key, f"{section}.{key}")
        return homes

    def _why_made(self, entry: Entry, raw: dict[str, Any]) -> str:
        """A variable whose id is misspelt makes a new table, which then lacks everything else."""
        variables = [value.name for value in raw.values() if isinstance(value, Variable)]
        if entry.id is None or not raw or len(variables) < len(raw):
            return ""
        others = [id_ for id_ in self._raw[entry.section] if id_ != entry.id]
        return f" {variables[0]} declares a new id, {entry.id}. {nearest(entry.id, others) if others else ''}".rstrip()


def where_of(section: str, id_: str | None) -> str:
    """The name of a table, quoted as TOML wants it."""
    if id_ is None:
        return section
    return f"{section}.{id_}" if _BARE_KEY.fullmatch(id_) else f'{section}."{id_}"'


def _from_text(text: str, kind: Any) -> Any:
    """Text of the environment as the file would have it; whatever does not fit is found wrong afterwards."""
    if text[0] in "[{" and (kind is Headers or isinstance(inspect.type_info(kind), inspect.VarTupleType)):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    if kind is not Headers and isinstance(inspect.type_info(kind), inspect.VarTupleType):
        return [item.strip() for item in text.split(",") if item.strip()]
    return _YES_NO.get(text.lower(), text) if kind is bool else text


def _expected(kind: Any) -> str:
    """What a setting must be, in words."""
    info = inspect.type_info(kind)
    if isinstance(info, inspect.UnionType):
        info = next(one for one in info.types if not isinstance(one, inspect.NoneType))
    match info:
        case inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case inspect.IntType(ge=low, le=high):
            return f"an integer from {low} to {high}"
        case inspect.FloatType(gt=low, le=high):
            return f"a number above {low}, up to {high}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' for value in values) if len(values) > 1 else f'"{values[0]}"'
        case inspect.VarTupleType():
            return 'a list of texts: ["NAME", "NAME"]'
        case inspect.StrType(max_length=most) if most is not None:
            return f"text in quotes, of 1 to {most} characters"
    return "text in quotes"


def _shown(raw: Any) -> str:
    """What was found instead. Text is not repeated: a secret may have come into the wrong line."""
    match raw:
        case bool():
            return f", not {str(raw).lower()}"
        case int() | float():
            return f", not {raw}" if abs(raw) < _NUMBER_SHOWN_MAX else ""
        case "":
            return ", not empty"
        case dict():
            return ", not a table"
        case _:
            return ""
