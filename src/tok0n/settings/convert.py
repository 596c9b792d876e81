"""Convert and check each setting separately, so that one error doesn't hide another."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo

from tok0n.domain.email import parse_mailbox
from tok0n.domain.endpoints import BY_NAME
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import STANDARD_TITLE
from tok0n.domain.usage import TOKENS_MAX
from tok0n.settings import rules
from tok0n.settings.layers import Variable, table_of
from tok0n.settings.problems import SettingsInvalid, SettingsProblem, nearest
from tok0n.settings.schema import SECTIONS, TABLES, default_of, fields_of, old_names_of, type_of
from tok0n.settings.secret import REFERENCE_PREFIXES, Headers, Secret, is_reference

OPTIONAL_SECTION = "payments"
CLIENT_HEADERS = frozenset({"host", "connection", "content-length", "content-type", "transfer-encoding"})
"""Headers that only the upstream client may set."""

DEFAULT_OUTPUT_TOKENS = 4_096
"""The default of `default_output_tokens`, unless the model's `max_output_tokens` is lower."""

AGENT_OUTPUT_TOKENS = 32_000
"""An output limit that coding agents rarely reach."""

EVENT_BYTES_FACTOR = 4
"""An event that repeats a request may have this many times its bytes, because of escapes."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CREDENTIALS = re.compile(r"auth|cookie|key|password|secret|token|credential|signature", re.IGNORECASE)
_PRINTED_NUMBER_MAX = 10**30
_NO_REFERENCE = 'must name a secret, as "env:NAME" or "file:PATH". Never write the secret itself here.'
_YES_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}


class SettingsTable(msgspec.Struct, frozen=True, kw_only=True):
    """A section, or the table of one ID in a section. `values` has its valid settings, including defaults."""

    section: str
    id: str | None = None
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """The name of the table as the file spells it."""
        return where_of(self.section, self.id)

    @property
    def struct(self) -> type[msgspec.Struct]:
        """The declaration of its settings."""
        return (SECTIONS | TABLES)[self.section]


class Conversion:
    """Converts all settings when constructed. `tables` has the settings and `problems` the errors and warnings.

    `written_secrets` lists secrets in the file. They are errors in `tok0n config check`, but a server starts with them.
    """

    def __init__(self, raw: dict[str, Any], *, variables: Mapping[str, str], folder: Path) -> None:
        self.tables: list[SettingsTable] = []
        self.problems: list[SettingsProblem] = []
        self.written_secrets: list[SettingsProblem] = []
        self._origins: dict[str, str] = {}
        self._raw = raw
        self._variables = variables
        self._folder = folder
        for section, content in raw.items():
            if section not in SECTIONS | TABLES:
                kind = "section" if isinstance(content, dict) else "setting"
                self._add_problem(section, f"there is no such {kind}. {_suggest(section, SECTIONS | TABLES)}")
        for section in SECTIONS:
            if section in raw or section != OPTIONAL_SECTION:
                self._convert_table(SettingsTable(section=section, values={}), raw.get(section, {}))
        for section in TABLES:
            if not isinstance(raw.get(section, {}), dict):
                self._add_problem(section, f"must be a table for each ID: [{section}.ID].")
            for id_, content in table_of(raw, section).items():
                self._convert_table(SettingsTable(section=section, id=id_, values={}), content)

    @property
    def server(self) -> dict[str, Any]:
        """The valid settings of the section `server`, if it was converted."""
        return next((table.values for table in self.tables if table.section == "server"), {})

    def with_origin(self, problem: SettingsProblem) -> SettingsProblem:
        """Name the origin of a value that doesn't come from the file."""
        origin = self._origins.get(problem.where)
        if origin is None:
            return problem
        return msgspec.structs.replace(problem, message=f"{problem.message} (It comes from {origin}.)")

    def _add_problem(self, where: str, message: str, *, severity: Literal["error", "warning"] = "error") -> None:
        self.problems.append(self.with_origin(SettingsProblem(where=where, message=message, severity=severity)))

    def _convert_table(self, table: SettingsTable, raw: Any) -> None:
        self.tables.append(table)
        if table.id is not None and (reason := rules.table_id(table.id)) is not None:
            self._add_problem(table.where, reason)
        if not isinstance(raw, dict):
            self._add_problem(table.where, f"must be a table: [{table.where}].")
            return
        fields, old_names = fields_of(table.struct), old_names_of(table.struct)
        for key, field in fields.items():
            if key in raw:
                self._convert_setting(table, key, raw[key], field)
            elif not field.required:
                table.values[key] = default_of(field)
            else:
                self._add_problem(f"{table.where}.{key}", f"is missing.{self._why_declared(table, raw)}")
        for key in raw:
            if key in old_names:
                self._convert_old_name(table, key, raw, old_names[key])
            elif key not in fields:
                self._add_problem(f"{table.where}.{key}", f"there is no such setting. {_suggest(key, fields)}")
        for key, message in self._contradictions(table):
            self._add_problem(f"{table.where}.{key}", message)
        self._warn_of_short_answers(table)

    def _convert_old_name(self, table: SettingsTable, old_name: str, raw: dict[str, Any], key: str) -> None:
        where = f"{table.where}.{old_name}"
        self._convert_setting(table, old_name, raw[old_name], fields_of(table.struct)[key])
        if old_name not in table.values:
            return
        value = table.values.pop(old_name)
        if key in raw and value != table.values.get(key, value):
            self._add_problem(where, f"is the old name of {key}, which is set to another value. Remove {old_name}.")
        else:
            self._add_problem(where, f"is now called {key}. Rename it.", severity="warning")
            table.values[key] = value

    def _convert_setting(self, table: SettingsTable, key: str, raw: Any, field: FieldInfo) -> None:
        """Convert one setting. Keeps a value of the right type even if its rule fails, for comparisons."""
        where = f"{table.where}.{key}"
        info, extra = type_of(field)
        try:
            value = table.values[key] = self._value(where, raw, field.type, info, extra)
        except SettingsInvalid as error:
            self.problems += map(self.with_origin, error.problems)
        else:
            if value and "rule" in extra and (reason := extra["rule"](value)) is not None:
                self._add_problem(where, reason)
            if "notice" in extra:
                self._add_problem(where, extra["notice"], severity="warning")

    def _value(self, where: str, raw: Any, kind: Any, info: inspect.Type, extra: Mapping[str, Any]) -> Any:
        """Convert a raw value to the type `kind`, and resolve the secret reference of a whole URL.

        A value from the environment is always text, so it is converted leniently: "8080" is an integer there. Raises
        `SettingsInvalid` for a wrong type, a value out of range, or a missing secret.
        """
        is_from_environment = isinstance(raw, Variable)
        if isinstance(raw, Variable):
            self._origins[where] = raw.origin
            raw = _from_text(raw.text, info)
        if isinstance(info, inspect.CustomType):
            return self._headers(where, raw) if info.cls is Headers else self._secret(where, raw)
        if isinstance(raw, str) and "may_be_reference" in extra:
            if raw.startswith(REFERENCE_PREFIXES):
                reference, raw = raw, self._secret(where, raw).resolve()
                self._origins[where] = reference
            elif not is_from_environment and rules.has_password(raw):
                self._written_secret(where, "contains a password.", "env:NAME or file:PATH in place of the whole URL.")
        try:
            return msgspec.convert(raw, kind, strict=not is_from_environment)
        except msgspec.ValidationError:
            message = f"must be {extra.get('expected') or _expected(info)}{_actual(raw)}."
            raise SettingsInvalid([SettingsProblem(where=where, message=message)]) from None

    def _secret(self, where: str, raw: Any) -> Secret:
        """Return the secret that `raw` refers to. The error never contains the value, which may be a pasted key."""
        if isinstance(raw, str) and is_reference(raw):
            return Secret(raw, where=where, environ=self._variables, folder=self._folder)
        raise SettingsInvalid([SettingsProblem(where=where, message=_NO_REFERENCE)])

    def _headers(self, where: str, raw: Any) -> Headers:
        if not isinstance(raw, dict):
            raise SettingsInvalid(
                [SettingsProblem(where=where, message='must be a table of headers: { "NAME" = "VALUE" }.')]
            )
        fields: dict[str, str | Secret] = {}
        seen: set[str] = set()
        for name, value in raw.items():
            header_where = where_of(where, name)
            if (reason := _header_problem(name, value, seen)) is not None:
                self._add_problem(header_where, reason)
            elif value.startswith(REFERENCE_PREFIXES):
                fields[name] = self._secret(header_where, value)
            else:
                fields[name] = value
                if _CREDENTIALS.search(name) and where not in self._origins:
                    message = f"{where_of('', name).lstrip('.')} contains a secret."
                    self._written_secret(where, message, "env:NAME or file:PATH.")
            seen.add(name.lower())
        return Headers(fields)

    def _written_secret(self, where: str, problem: str, reference: str) -> None:
        message = f"{problem} Put it into the environment or a file, and write {reference}"
        self.written_secrets.append(SettingsProblem(where=where, message=message))

    def _contradictions(self, table: SettingsTable) -> Iterator[tuple[str, str]]:
        """Find settings of a table that contradict each other. Yields the name and the error of each."""
        get = table.values.get
        if table.section == "mail" and get("host"):
            try:
                parse_mailbox(get("sender", ""))
            except OperatorError:
                yield "sender", 'must be one email address, with an optional name: "Tok0n <noreply@example.com>".'
            if bool(get("username")) != (get("password") is not None):
                yield "password", "and username go together: set both, or neither."
        if table.section == "upstreams" and get("api_key") and get("auth", "none") != "none":
            header = "Authorization" if get("auth") == "bearer" else str(get("auth"))
            if header.lower() in map(str.lower, get("headers", ())):
                yield "headers", f"must not set {header}, because api_key does."
        if table.section == "upstreams" and (reason := self._too_small_for_streams(get("body_bytes_max"))) is not None:
            yield "body_bytes_max", reason
        if table.section == "token_classes" and (twin := self._twin_of(table)) is not None:
            yield "title", f"is also the title of {twin}. Customers need different titles."
        if table.section in {"models", "packs"} and (reason := self._unknown_class(get("token_class"))) is not None:
            yield "token_class", reason
        if table.section == "models":
            yield from self._contradictions_of_model(table)

    def _unknown_class(self, token_class: str | None) -> str | None:
        """Return an error unless the token class is declared. One whose own table is invalid counts as declared."""
        declared = [STANDARD, *(id_ for id_ in table_of(self._raw, "token_classes") if id_ != STANDARD)]
        if token_class is None or token_class in declared:
            return None
        table = where_of("token_classes", token_class)
        return f"names no declared token class. {nearest(token_class, declared)} To declare this one, add [{table}]."

    def _twin_of(self, table: SettingsTable) -> str | None:
        """Return an earlier token class with the same title, or None."""
        title = table.values.get("title")
        others = [other for other in self.tables if other.section == "token_classes" and other is not table]
        titles = {STANDARD: STANDARD_TITLE} | {str(other.id): other.values.get("title") for other in others}
        titles.pop(str(table.id), None)
        return next((id_ for id_, other in titles.items() if title is not None and other == title), None)

    def _contradictions_of_model(self, table: SettingsTable) -> Iterator[tuple[str, str]]:
        get = table.values.get
        upstreams = table_of(self._raw, "upstreams")
        if "upstream" in table.values and get("upstream") not in upstreams:
            yield "upstream", f"names no declared upstream. {nearest(table.values['upstream'], upstreams)}"
        endpoints = get("endpoints", ())
        if not set(endpoints) <= BY_NAME.keys():
            yield "endpoints", f"must be some of {', '.join(BY_NAME)}."
        elif len(set(endpoints)) < len(endpoints):
            yield "endpoints", "must name each endpoint once."
        has_output_limit = any(BY_NAME[name].has_output_limit for name in endpoints if name in BY_NAME)
        if get("max_output_tokens", 1) is None and has_output_limit:
            yield "max_output_tokens", f"is missing.{self._why_declared(table, self._raw['models'][table.id])}"
        for key, limit_key in (
            ("default_output_tokens", "max_output_tokens"),
            ("max_output_tokens", "context_window_tokens"),
        ):
            value, limit = get(key), get(limit_key)
            if value is not None and limit is not None and value > limit:
                yield key, f"must be at most {limit_key}, which is {limit}; it is {value}."

    def _warn_of_short_answers(self, table: SettingsTable) -> None:
        """Warn of a model for agents whose requests have no output limit: Codex fails if an answer is cut."""
        if table.section != "models":
            return
        get = table.values.get
        tokens = get("default_output_tokens") or min(DEFAULT_OUTPUT_TOKENS, get("max_output_tokens") or TOKENS_MAX)
        if "responses" in get("endpoints", ()) and tokens < AGENT_OUTPUT_TOKENS:
            self._add_problem(
                f"{table.where}.default_output_tokens",
                f"is {tokens}. Codex sends no output limit and fails if an answer is cut: set {AGENT_OUTPUT_TOKENS} or"
                " more if the model allows it.",
                severity="warning",
            )

    def _too_small_for_streams(self, bytes_max: int | None) -> str | None:
        """Check the limit of one event of a stream, which may repeat the request."""
        server = self.server
        body_bytes_max = server.get("max_body_bytes")
        if not server.get("streaming") or body_bytes_max is None or bytes_max is None:
            return None
        needed = EVENT_BYTES_FACTOR * body_bytes_max
        if bytes_max >= needed:
            return None
        return (
            f"must be at least {EVENT_BYTES_FACTOR} times server.max_body_bytes while server.streaming is on:"
            f" set it to {needed} or more, or lower server.max_body_bytes; it is {bytes_max}."
        )

    def _why_declared(self, table: SettingsTable, raw: dict[str, Any]) -> str:
        """Name the variable that declares a table on its own, because it may be a misspelled ID of another table."""
        origins = [value.origin for value in raw.values() if isinstance(value, Variable)]
        if table.id is None or not raw or len(origins) < len(raw):
            return ""
        others = [id_ for id_ in self._raw[table.section] if id_ != table.id]
        return f" {origins[0]} declares a new ID, {table.id}. {nearest(table.id, others) if others else ''}".rstrip()


def where_of(section: str, id_: str | None) -> str:
    """Return the name of a table, quoted as TOML requires."""
    if id_ is None:
        return section
    return f"{section}.{id_}" if _BARE_KEY.fullmatch(id_) else f'{section}."{id_}"'


def _suggest(key: str, candidates: Iterable[str]) -> str:
    """Suggest the section that has the setting `key`, or the closest of the `candidates`."""
    section = next((section for section, struct in SECTIONS.items() if key in fields_of(struct)), None)
    return nearest(key, candidates) if section is None else f"Did you mean {section}.{key}?"


def _header_problem(name: str, value: Any, seen: set[str]) -> str | None:
    if not _HEADER_NAME.fullmatch(name):
        return "is not a valid header name."
    if name.lower() in CLIENT_HEADERS:
        return "is set by Tok0n itself. Remove it."
    if name.lower() in seen:
        return "is set twice: upper and lower case make no difference."
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        return "must be printable ASCII text, or a secret as env:NAME or file:PATH."
    return _NO_REFERENCE if value.startswith(REFERENCE_PREFIXES) and not is_reference(value) else None


def _from_text(text: str, info: inspect.Type) -> Any:
    """Convert the text of a variable to the value that the file would have. The caller reports invalid text."""
    is_list = isinstance(info, inspect.VarTupleType)
    if text[0] in "[{" and (is_list or isinstance(info, (inspect.CustomType, inspect.DictType))):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    if is_list:
        return [item.strip() for item in text.split(",") if item.strip()]
    return _YES_NO.get(text.lower(), text) if isinstance(info, inspect.BoolType) else text


def _expected(info: inspect.Type) -> str:
    """Describe a type and its limits."""
    match info:
        case inspect.IntType(ge=low, le=high):
            return f"an integer from {low} to {high}"
        case inspect.FloatType(gt=low, le=high):
            return f"a number above {low}, up to {high}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return ("one of " if len(values) > 1 else "") + ", ".join(f'"{value}"' for value in values)
        case inspect.VarTupleType():
            return 'a list of texts: ["NAME", "NAME"]'
        case inspect.StrType(max_length=length_max) if length_max is not None:
            return f"text in quotes, of 1 to {length_max} characters"
    return "text in quotes"


def _actual(raw: Any) -> str:
    """Describe a wrong value, but not text, which may be a secret on the wrong line."""
    match raw:
        case bool():
            return f", not {str(raw).lower()}"
        case int() | float():
            return f", not {raw}" if abs(raw) < _PRINTED_NUMBER_MAX else ""
        case "":
            return ", not empty"
        case dict():
            return ", not a table"
    return ""
