"""The request fields that may travel, each with the check of its value. What is not here is refused by name.

Source: OpenAI API reference, "Create chat completion" (openai-python 3.54, `completion_create_params.py`). A field is
accepted when it cannot make the upstream do unbounded or extra-billed work. Where values grow from one model to the
next (`reasoning_effort`), only the type is checked and the upstream judges. Null always means "not given".
"""

from collections.abc import Callable
from typing import Any, NoReturn

from tok0n.domain.errors import InvalidRequest

Check = Callable[[Any, str], None]

CHOICES_MAX = 128
WORD_CHARACTERS_MAX = 512
INT64 = (-(2**63), 2**63 - 1)


def refuse(param: str, message: str) -> NoReturn:
    """Say which field is wrong, and how."""
    raise InvalidRequest(message, param=param)


def is_integer(value: Any) -> bool:
    """Whether a decoded JSON value is an integer: a bool is not one, nor is 1.0."""
    return type(value) is int


def integer(low: int, high: int) -> Check:
    """A check for integers from `low` to `high`."""

    def check(value: Any, param: str) -> None:
        if not is_integer(value) or not low <= value <= high:
            refuse(param, f"'{param}' must be an integer from {low} to {high}.")

    return check


def number(low: float, high: float) -> Check:
    """A check for numbers from `low` to `high`."""

    def check(value: Any, param: str) -> None:
        if type(value) not in {int, float} or not low <= value <= high:
            refuse(param, f"'{param}' must be a number from {low:g} to {high:g}.")

    return check


def boolean(value: Any, param: str) -> None:
    """A check for true and false."""
    if type(value) is not bool:
        refuse(param, f"'{param}' must be true or false.")


def text(value: Any, param: str) -> None:
    """A check for text of any length."""
    if type(value) is not str:
        refuse(param, f"'{param}' must be a string.")


def word(value: Any, param: str) -> None:
    """A check for short text: a name, an id, a level."""
    text(value, param)
    if len(value) > WORD_CHARACTERS_MAX:
        refuse(param, f"'{param}' must have {WORD_CHARACTERS_MAX} characters at the most.")


def mapping(value: Any, param: str) -> None:
    """A check for a JSON object."""
    if type(value) is not dict:
        refuse(param, f"'{param}' must be an object.")


def sequence(value: Any, param: str, *, most: int | None = None) -> None:
    """A check for a list, of `most` items at most."""
    if type(value) is not list:
        refuse(param, f"'{param}' must be a list.")
    if most is not None and len(value) > most:
        refuse(param, f"'{param}' must have {most} items at the most.")


def not_here(reason: str) -> Check:
    """A field that is known and never served."""

    def check(_: Any, param: str) -> None:
        refuse(param, f"'{param}' is not supported here: {reason}")

    return check


def _only(allowed: tuple[Any, ...], reason: str) -> Check:
    def check(value: Any, param: str) -> None:
        if not any(type(value) is type(one) and value == one for one in allowed):
            shown = " or ".join(str(one).lower() if type(one) is bool else repr(one) for one in allowed)
            refuse(param, f"'{param}' must be {shown} here: {reason}")

    return check


def _stop(value: Any, param: str) -> None:
    if type(value) is str:
        return
    sequence(value, param)
    for index, item in enumerate(value):
        text(item, f"{param}[{index}]")


def _modalities(value: Any, param: str) -> None:
    sequence(value, param, most=2)
    if value != ["text"]:
        refuse(param, f"'{param}' must be [\"text\"] here: other output is not billed by the token.")


def _logit_bias(value: Any, param: str) -> None:
    mapping(value, param)
    for token, bias in value.items():
        if type(bias) not in {int, float} or not -100 <= bias <= 100:
            refuse(param, f"'{param}' must map token ids to numbers from -100 to 100; {token[:20]!r} does not.")


def _metadata(value: Any, param: str) -> None:
    mapping(value, param)
    if len(value) > 16 or any(type(item) is not str or len(key) > 64 or len(item) > 512 for key, item in value.items()):
        refuse(param, f"'{param}' must have up to 16 strings of up to 512 characters, under keys of up to 64.")


def _prediction(value: Any, param: str) -> None:
    mapping(value, param)
    if value.get("type") != "content" or not set(value) <= {"type", "content"}:
        refuse(param, f"'{param}' must be an object with type \"content\" and a content.")
    content = value.get("content")
    if type(content) is str:
        return
    if type(content) is not list or any(
        type(part) is not dict or part.get("type") != "text" or type(part.get("text")) is not str for part in content
    ):
        refuse(f"{param}.content", f"'{param}.content' must be a string or a list of text parts.")


def _response_format(value: Any, param: str) -> None:
    mapping(value, param)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        refuse(f"{param}.type", f"'{param}.type' must be text, json_object or json_schema.")
    if kind == "json_schema":
        mapping(value.get("json_schema"), f"{param}.json_schema")


def _tools(value: Any, param: str) -> None:
    sequence(value, param)
    for index, tool in enumerate(value):
        where = f"{param}[{index}]"
        mapping(tool, where)
        kind = tool.get("type")
        if kind not in ("function", "custom"):
            refuse(
                f"{where}.type",
                f"'{where}.type' must be function or custom: a tool that the upstream runs itself"
                " is not billed by the token.",
            )
        mapping(tool.get(kind), f"{where}.{kind}")
        word(tool[kind].get("name"), f"{where}.{kind}.name")


def _functions(value: Any, param: str) -> None:
    sequence(value, param)
    for index, function in enumerate(value):
        mapping(function, f"{param}[{index}]")
        word(function.get("name"), f"{param}[{index}].name")


def _tool_choice(value: Any, param: str) -> None:
    if type(value) is not str:
        mapping(value, param)
        if value.get("type") not in ("function", "custom", "allowed_tools"):
            refuse(f"{param}.type", f"'{param}.type' must be function, custom or allowed_tools.")


def _function_call(value: Any, param: str) -> None:
    if type(value) is not str:
        mapping(value, param)
        word(value.get("name"), f"{param}.name")


_NOT_BY_TOKENS = "it is not billed by the token."

FIELDS: dict[str, Check] = {
    "audio": not_here(_NOT_BY_TOKENS),
    "frequency_penalty": number(-2, 2),
    "function_call": _function_call,
    "functions": _functions,
    "logit_bias": _logit_bias,
    "logprobs": boolean,
    "metadata": _metadata,
    "modalities": _modalities,
    "n": integer(1, CHOICES_MAX),
    "parallel_tool_calls": boolean,
    "prediction": _prediction,
    "presence_penalty": number(-2, 2),
    "prompt_cache_key": word,
    "prompt_cache_retention": word,
    "reasoning_effort": word,
    "response_format": _response_format,
    "safety_identifier": word,
    "seed": integer(*INT64),
    "service_tier": _only(("auto", "default"), "other tiers have prices of their own."),
    "stop": _stop,
    "store": _only((False,), "the gateway keeps no content, and lets none be kept."),
    "stream": _only((False,), "only whole answers are served; leave it out or send false."),
    "stream_options": not_here("only whole answers are served."),
    "temperature": number(0, 2),
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": integer(0, 20),
    "top_p": number(0, 1),
    "user": word,
    "verbosity": word,
    "web_search_options": not_here(_NOT_BY_TOKENS),
}
"""Every documented field but `model`, `messages` and the two spellings of the output limit, which are read apart."""

COUNTED = {"tools": "tools_max", "functions": "tools_max", "stop": "stop_sequences_max"}
"""Lists that a model bounds, by the setting that holds the bound."""

REFUSED_UNLESS_ALLOWED = {
    "moderation": "it makes the upstream do work beside the completion",
    "prompt_cache_options": "it can make the upstream charge for writing its cache",
}
"""Documented fields that an operator may allow for a model in `extra_fields`, as any other that is not served."""


def refuse_unknown(name: str) -> NoReturn:
    """Refuse a field that is not served, as OpenAI words it."""
    shown = name[:80]
    reason = REFUSED_UNLESS_ALLOWED.get(name)
    if reason is not None:
        refuse(name, f"'{name}' is not supported here: {reason}.")
    refuse(shown, f"Unrecognized request argument supplied: {shown}")
