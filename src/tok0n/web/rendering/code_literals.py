"""Write JSON values as Python and JavaScript code, which fits the width of a page where it can."""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

WIDTH = 100

_JS_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """How a language writes literals. `indent` is what one level adds, and `space` stands inside braces on one line."""

    true: str
    false: str
    null: str
    indent: str
    space: str
    bare_keys: bool

    def literal(self, value: Any, margin: str = "") -> str:
        """Return the code of a JSON value. `margin` is the indentation of the line that it begins on."""
        line = self._line(value)
        if len(margin) + len(line) <= WIDTH or not isinstance(value, dict | list) or not value:
            return line
        inner = margin + self.indent
        if isinstance(value, dict):
            items = [f"{self._key(key)}: {self.literal(item, inner)}" for key, item in value.items()]
        else:
            items = [self.literal(item, inner) for item in value]
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        return "\n".join([opening, *(f"{inner}{item}," for item in items), margin + closing])

    def _line(self, value: Any) -> str:
        if isinstance(value, dict):
            items = ", ".join(f"{self._key(key)}: {self._line(item)}" for key, item in value.items())
            return f"{{{self.space}{items}{self.space}}}" if items else "{}"
        if isinstance(value, list):
            return f"[{', '.join(map(self._line, value))}]"
        words = {True: self.true, False: self.false, None: self.null}
        if value is None or isinstance(value, bool):
            return words[value]
        return json.dumps(value, ensure_ascii=False)

    def _key(self, key: str) -> str:
        return key if self.bare_keys and _JS_NAME.fullmatch(key) else json.dumps(key, ensure_ascii=False)


PYTHON = Language(true="True", false="False", null="None", indent="    ", space="", bare_keys=False)
JAVASCRIPT = Language(true="true", false="false", null="null", indent="  ", space=" ", bare_keys=True)


def python_call(call: str, body: Mapping[str, Any]) -> str:
    """Return a call with the members of a body as keyword arguments."""
    indent = PYTHON.indent
    lines = [f"{indent}{name}={PYTHON.literal(value, indent)}," for name, value in body.items()]
    return "\n".join([f"{call}(", *lines, ")"])


def javascript_call(call: str, body: Mapping[str, Any]) -> str:
    """Return a call with a body as its only argument."""
    indent = JAVASCRIPT.indent
    lines = [f"{indent}{name}: {JAVASCRIPT.literal(value, indent)}," for name, value in body.items()]
    return "\n".join([f"{call}({{", *lines, "});"])
