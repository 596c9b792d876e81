"""The kinds of request fields. Each kind checks a decoded value and generates its JSON schema.

`check(value, param, model)` raises `InvalidRequest` with the path of the invalid value. Checks never change a value,
because the gateway forwards the client's bytes. In an object, null means that an optional member is absent.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.usage import TOKENS_MAX

Schema = dict[str, Any]
Path = str | tuple["Path", str | int]
"""The path of a value: a name, or a parent path with a name or index. `path_text` renders it only for an error."""

Check = Callable[[Any, Path, Model], None]

NULL: Schema = {"type": "null"}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}
OTHER_FIELDS_NOTE = (
    "Any other field is rejected with an error that names it, unless it is null or the operator allows it."
)
NAME_CHARACTERS_MAX = 80
"""An error message truncates the name of an unknown member to this length."""


def path_text(path: Path) -> str:
    """Render a path as OpenAI does: `messages[0].content`."""
    if isinstance(path, str):
        return path
    parent, step = path
    return f"{path_text(parent)}[{step}]" if isinstance(step, int) else f"{path_text(parent)}.{step}"


def reject(param: Path, message: str) -> NoReturn:
    """Raise `InvalidRequest` for the field at `param`."""
    raise InvalidRequest(message, param=path_text(param))


def must(param: Path, expectation: str) -> NoReturn:
    """Raise `InvalidRequest` with the message that the field at `param` must meet `expectation`."""
    reject(param, f"{path_text(param)} must {expectation}.")


def reject_unknown(name: str) -> NoReturn:
    """Reject an unknown field of the body, with OpenAI's message."""
    name = name[:NAME_CHARACTERS_MAX]
    reject(name, f"Unrecognized request argument supplied: {name}")


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field that accepts any value, and the base of all kinds. `note` is its description in the OpenAPI document."""

    note: str = ""
    is_deprecated: bool = False

    def check(self, value: Any, param: Path, model: Model) -> None:
        """Raise `InvalidRequest` if `value` is invalid. `model` has the limits that the operator sets."""

    def shape(self) -> Schema:
        """Return the JSON schema without the note."""
        return {}

    def schema(self) -> Schema:
        """Return the JSON schema of a required field."""
        notes = {"description": self.note} if self.note else {}
        return self.shape() | notes | ({"deprecated": True} if self.is_deprecated else {})

    def optional_schema(self) -> Schema:
        """Return the JSON schema of an optional field, which may be null."""
        schema = self.schema()
        if "anyOf" in schema:
            return schema | {"anyOf": [*schema["anyOf"], NULL]}
        if "enum" in schema:
            return schema | {"enum": [*schema["enum"], None]}
        return schema | {"type": [schema["type"], "null"]} if "type" in schema else schema


class Integer(Field, frozen=True, kw_only=True):
    """An integer from `low` to `high`. `true` and `1.0` are not integers."""

    low: int
    high: int

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not int or not self.low <= value <= self.high:
            must(param, f"be an integer from {self.low} to {self.high}")

    def shape(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


class OutputLimit(Field, frozen=True, kw_only=True):
    """A positive number of output tokens, up to the model's `max_output_tokens`."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not int or value < 1:
            must(param, "be a positive integer")
        if value > model.max_output_tokens:
            must(param, f"be at most {model.max_output_tokens} for model {model.id}")

    def shape(self) -> Schema:
        return {"type": "integer", "minimum": 1}


class Number(Field, frozen=True, kw_only=True):
    """A number from `low` to `high`."""

    low: float
    high: float

    def check(self, value: Any, param: Path, model: Model) -> None:
        kind = type(value)
        if (kind is not int and kind is not float) or not self.low <= value <= self.high:
            must(param, f"be a number from {self.low:g} to {self.high:g}")

    def shape(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


class Boolean(Field, frozen=True, kw_only=True):
    """True or false."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not bool:
            must(param, "be true or false")

    def shape(self) -> Schema:
        return {"type": "boolean"}


class Text(Field, frozen=True, kw_only=True):
    """A string of at most `characters_max` characters, or of any length if that is None."""

    characters_max: int | None = None

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not str:
            must(param, "be a string")
        if self.characters_max is not None and len(value) > self.characters_max:
            must(param, f"have at most {self.characters_max} characters")

    def shape(self) -> Schema:
        return {"type": "string"} | ({} if self.characters_max is None else {"maxLength": self.characters_max})


class ModelId(Field, frozen=True, kw_only=True):
    """The public id of a model."""

    characters_max: int

    def check(self, value: Any, param: Path, model: Model) -> None:
        self.check_id(value, param)

    def check_id(self, value: Any, param: Path) -> None:
        """Check the format of a model id, before the model is looked up."""
        if type(value) is not str or not value:
            must(param, "be the id of a model. GET /v1/models lists the available models")
        if len(value) > self.characters_max:
            must(param, f"have at most {self.characters_max} characters")

    def shape(self) -> Schema:
        return {"type": "string", "minLength": 1, "maxLength": self.characters_max}


class Only(Field, frozen=True, kw_only=True):
    """One of a few values. `reason` says why the gateway accepts no other."""

    values: tuple[str | bool, ...]
    reason: str

    @property
    def expectation(self) -> str:
        """The values and the reason, for the error message."""
        names = (str(allowed).lower() if type(allowed) is bool else repr(allowed) for allowed in self.values)
        return f"be {' or '.join(names)}: {self.reason}"

    def check(self, value: Any, param: Path, model: Model) -> None:
        if not any(type(value) is type(allowed) and value == allowed for allowed in self.values):
            must(param, self.expectation)

    def shape(self) -> Schema:
        return {"enum": list(self.values)}


class NotServed(Field, frozen=True, kw_only=True):
    """A documented field that Tok0n always rejects. The OpenAPI document omits it."""

    reason: str

    def check(self, value: Any, param: Path, model: Model) -> None:
        reject(param, f"{path_text(param)} is not supported: {self.reason}.")


class Array(Field, frozen=True, kw_only=True):
    """A list of at most `items_max` items, or as many as the model's setting `limit` allows."""

    items: Field = Field()
    items_max: int | None = None
    limit: str = ""
    expected: str = "a list"
    empty: str = ""
    """The expectation in the error for an empty list. If it is empty, the list may be empty."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        self.check_length(value, param, model)
        if type(self.items) is not Field:
            for index, item in enumerate(value):
                self.items.check(item, (param, index), model)

    def check_length(self, value: Any, param: Path, model: Model) -> None:
        """Check that `value` is a list of an allowed length. Doesn't check its items."""
        if type(value) is not list:
            must(param, f"be {self.expected}")
        if self.empty and not value:
            must(param, self.empty)
        items_max = getattr(model, self.limit) if self.limit else self.items_max
        if items_max is not None and len(value) > items_max:
            must(param, f"have at most {items_max} items")

    def shape(self) -> Schema:
        defaults = {field.name: field.default for field in msgspec.structs.fields(Model)}
        items_max = defaults[self.limit] if self.limit else self.items_max
        items = self.items.schema()
        return (
            {"type": "array"}
            | ({"minItems": 1} if self.empty else {})
            | ({} if items_max is None else {"maxItems": items_max})
            | ({"items": items} if items else {})
        )


class Object(Field, frozen=True, kw_only=True):
    """An object. It may have other members than the listed ones, unless `extra` is set.

    If `extra` is set, another member NAME is allowed only if the model's `extra_fields` list `extra` + NAME.
    """

    members: Mapping[str, Field] = {}
    required: frozenset[str] = frozenset()
    extra: str = ""
    checks: tuple[tuple[str, Check, bool], ...] = ()
    """For each member with a check: its name, its check, and whether it is required. Computed once, for speed."""

    def __post_init__(self) -> None:
        checks = tuple(
            (name, field.check, name in self.required)
            for name, field in self.members.items()
            if type(field) is not Field
        )
        msgspec.structs.force_setattr(self, "checks", checks)

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not dict:
            must(param, "be an object")
        if self.extra and not value.keys() <= self.members.keys():
            self._reject_unknown(value, param, model)
        for name, check, is_required in self.checks:
            member = value.get(name)
            if member is not None or is_required:
                check(member, (param, name), model)

    def _reject_unknown(self, value: Mapping[str, Any], param: Path, model: Model) -> None:
        for name, member in value.items():
            if name not in self.members and member is not None and self.extra + name not in model.extra_fields:
                path = path_text((param, name[:NAME_CHARACTERS_MAX]))
                reject(path, f"Unrecognized request argument supplied: {path}")

    def shape(self) -> Schema:
        properties = {
            name: field.schema() if name in self.required else field.optional_schema()
            for name, field in self.members.items()
            if not isinstance(field, NotServed)
        }
        return (
            {"type": "object"}
            | ({"required": sorted(self.required)} if self.required else {})
            | ({"additionalProperties": NULL} if self.extra else {})
            | ({"properties": properties} if properties else {})
        )


class Tagged(Field, frozen=True, kw_only=True):
    """An object whose member `tag` selects one of `kinds`. `expected` lists the kinds for the error message.

    A kind in `limits` is accepted only if the model has that setting, so the OpenAPI document omits it.
    """

    tag: str = "type"
    kinds: Mapping[str, Object]
    expected: str
    default: str | None = None
    common: Object = Object()
    """The members of every kind, checked before the tag."""
    limits: Mapping[str, str] = {}

    def check(self, value: Any, param: Path, model: Model) -> None:
        self.common.check(value, param, model)
        kind = value.get(self.tag)
        if kind is None:
            kind = self.default
        if type(kind) is not str or kind not in self.kinds:
            must((param, self.tag), f"be {self.expected}")
        if kind in self.limits and getattr(model, self.limits[kind]) is None:
            reject((param, self.tag), f"Model {model.id} does not accept parts of type {kind}.")
        self.kinds[kind].check(value, param, model)

    def shape(self) -> Schema:
        names: dict[int, list[str]] = {}
        for name, kind in self.kinds.items():
            if name not in self.limits:
                names.setdefault(id(kind), []).append(name)
        return {"anyOf": [self._kind(group) for group in names.values()]}

    def _kind(self, names: list[str]) -> Schema:
        schema = self.kinds[names[0]].schema()
        common = self.common.schema()
        is_default = self.default in names
        tag = {"enum": [*names, None] if is_default else names}
        required = [*([] if is_default else [self.tag]), *common.get("required", ()), *schema.get("required", ())]
        properties = common.get("properties", {}) | schema.get("properties", {}) | {self.tag: tag}
        return schema | {"properties": properties} | ({"required": required} if required else {})


class TextOr(Field, frozen=True, kw_only=True):
    """A string, or a value of the kind `other`. The check of `other` raises the error."""

    other: Field
    examples: tuple[str, ...] = ()

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not str:
            self.other.check(value, param, model)

    def shape(self) -> Schema:
        text = {"type": "string"} | ({"examples": list(self.examples)} if self.examples else {})
        other = self.other.schema()
        return {"anyOf": [text, *other.get("anyOf", [other])]}


class Custom(Field, frozen=True, kw_only=True):
    """A field with its own check and the equivalent JSON schema."""

    rule: Callable[[Any, Path], None]
    json_schema: Schema

    def check(self, value: Any, param: Path, model: Model) -> None:
        self.rule(value, param)

    def shape(self) -> Schema:
        return self.json_schema
