"""Read the error in an upstream's response, and decide whether the customer or the operator must fix it.

The customer must fix it unless it is about the operator's credentials, quota or model settings. This is a deny-list: an
error that it misses reaches a customer who can't fix it. An allow-list would be worse: an input error that it misses
would make SDKs retry a request that never succeeds.

Sources of the shapes: OpenAI, Azure OpenAI, Anthropic, Gemini, Mistral, DeepSeek, xAI, Groq, OpenRouter, Together,
Fireworks, DashScope and Bedrock; vLLM, SGLang, llama.cpp, TGI, Ollama, LiteLLM and FastAPI. `tests/support/
upstream_errors.py` has one example of each.
"""

import re
from typing import Any

import msgspec

MESSAGE_CHARACTERS_MAX = 4_000
"""The rest of a longer message is ignored."""

FAULTS_MAX = 5
"""The most faults of a validation error to report."""

NESTED_MAX = 3
"""The most levels of errors wrapped in other errors."""

_decode = msgspec.json.Decoder().decode

_FAILURES = frozenset({"server_error", "internal_server_error", "internal_error", "api_error", "overloaded_error"})
"""Error types that declare a 400 to be the upstream's own failure."""

_OUTPUT_LIMIT = re.compile(r"\bmax_(?:completion_)?tokens\b")
_UNSUPPORTED = re.compile(
    r"(?i)\bunsupported|\bunrecogni[sz]ed|\bunknown\b|\bunexpected\b|\bextra (?:inputs?|fields?)\b|\bforbidden"
    r"|\bnot (?:supported|permitted|allowed)"
)
_QUOTED = re.compile(r"""(?<!\w)(?:'[^']*'|"[^"]*"|`[^`]*`)(?!\w)""")
"""Quoted text in an upstream's message. It may be the customer's own text."""

_CODES = {
    "credentials": re.compile(
        r"api_?key|auth|permission|access_?denied|account|organization|project|region|country|credential|forbidden"
        r"|failed_precondition"
    ),
    "quota": re.compile(r"quota|billing|balance|credit|arrear|payment|rate_?limit|resource_exhausted|usage_limit"),
    "model settings": re.compile(
        r"model_?not_|(?:unknown|invalid)_?model|decommissioned|deployment|^not_?found|operationnotsupported"
    ),
}
_WORDS = {
    "credentials": re.compile(
        r"(?i)\bapi[ -]key|\bcredentials?\b|\bunauthori[sz]ed\b|\bauthenticat|\bauthorization header\b|\baccess token\b"
        r"|\b(?:permission|access) denied\b|\b(?:not|n't) have (?:access|permission)\b"
        r"|\byour (?:organi[sz]ation|account|project|team|workspace|plan|subscription)\b"
        r"|\b(?:organi[sz]ation|account)\b[^.\n]{0,80}\b(?:disabled|suspended|deactivated|verified|not active)\b"
        r"|\blocation is not supported\b"
    ),
    "quota": re.compile(
        r"(?i)\bcredit (?:balance|limit)|\bbilling\b|\bquota\b|\bfree tier\b|\busage limits?\b|\brate limit"
        r"|\binsufficient (?:balance|funds?|credits?|quota)\b|\brecharge\b|\bin good standing\b|余额|欠费"
    ),
    "model settings": re.compile(
        r"(?i)\bmodels?\b(?:[^.;\n]|\.\w){0,160}?\b(?:not exist|n't exist|not found|decommissioned|deprecated|retired"
        r"|no longer (?:available|supported)|not (?:available|loaded|deployed|served))"
        r"|\b(?:invalid|unknown|unrecognized) model\b|\bnot a valid model\b|\bmodel identifier\b|\bspecified model\b"
        r"|\bdeployments?\b|\bapi[ -]version\b|\binference profile\b|\bpassed (?:in )?model=|\bllm provider\b"
    ),
}


_STATUSES = {
    429: re.compile(r"rate_?limit|quota|resource_?exhausted|too_?many_?requests|throttl"),
    401: re.compile(r"authenticat|invalid_?api_?key|unauthorized"),
    402: re.compile(r"billing|balance|payment|credit"),
    403: re.compile(r"permission|access_?denied|forbidden"),
    404: re.compile(r"not_?found"),
    400: re.compile(
        r"bad_?request|invalid_?(?:request|argument|value|type|param|prompt|image)|unprocessable|validation"
        r"|context_?length|string_above_max|content_?(?:policy|filter)|failed_?precondition|unsupported_"
    ),
    500: re.compile(r"server_?error|internal|overload|unavailable|timeout|^api_?error"),
}
"""The status that the words in a type or code stand for. The first match counts."""


class ReportedError(msgspec.Struct, frozen=True, kw_only=True):
    """An error as the upstream reports it. `message` is None if its format is unknown.

    `names` are its type, code, status and reasons. `status` is an HTTP status that its body repeats.
    """

    message: str | None = None
    param: str | None = None
    names: tuple[str, ...] = ()
    status: int | None = None
    is_about_headers: bool = False


UNKNOWN = ReportedError()


def read_error(values: Any, *, nested: int = 0) -> ReportedError:
    """Read the error in a decoded body."""
    if type(values) is list and values:
        values = values[0]
    if type(values) is not dict or nested > NESTED_MAX:
        return UNKNOWN
    error = values.get("error")
    if type(error) is dict:
        return _read_object(error, nested=nested)
    if type(error) is str:
        return _make(error, values)
    if "detail" in values and type(values.get("message")) is not str:
        return _read_detail(values["detail"], values)
    return _read_object(values, nested=nested)


def operators_subject(error: ReportedError) -> str | None:
    """Return the subject that the operator must fix, such as "quota". None if the customer must fix the request."""
    if error.is_about_headers:
        return "credentials"
    if error.param == "model":
        return "model settings"
    names = [name.lower() for name in error.names]
    if not _FAILURES.isdisjoint(names):
        return "the upstream itself"
    message = error.message or ""
    limits = f"{error.param} {message}"
    if _OUTPUT_LIMIT.search(limits) and _UNSUPPORTED.search(" ".join((message, *names))):
        return "model settings"
    words = _QUOTED.sub(" ", message)
    for subject, codes in _CODES.items():
        if any(map(codes.search, names)) or _WORDS[subject].search(words):
            return subject
    return None


def declared_status(error: ReportedError) -> int | None:
    """Return the HTTP status that the error stands for, by its code or type. None if it has neither."""
    if error.status is not None:
        return error.status
    names = [name.lower() for name in error.names]
    return next((status for status, words in _STATUSES.items() if any(map(words.search, names))), None)


def _read_object(error: dict[str, Any], *, nested: int) -> ReportedError:
    """Read OpenAI's error object, or a similar one that wraps another error."""
    metadata = error.get("metadata")
    if type(metadata) is dict and type(metadata.get("raw")) is str:
        return _read_wrapped(metadata["raw"], error, nested=nested)
    message = error.get("message")
    match message:
        case str() if message.startswith("{"):
            return _read_wrapped(message, error, nested=nested)
        case str():
            return _make(message, error)
        case {"detail": detail}:
            return _read_detail(detail, error)
        case dict():
            return read_error(message, nested=nested + 1)
        case list():
            return _read_detail(message, error)
    return _make(None, error)


def _read_wrapped(text: str, error: dict[str, Any], *, nested: int) -> ReportedError:
    """Read an error whose message is the JSON of another error, as OpenRouter and Mistral send it."""
    try:
        inner = read_error(_decode(text), nested=nested + 1)
    except (msgspec.DecodeError, RecursionError):
        inner = UNKNOWN
    if inner.message is None and not inner.names:
        return _make(text, error)
    names = inner.names + _names(error)
    status = _status(error) if inner.status is None else inner.status
    return msgspec.structs.replace(inner, names=names, status=status)


def _read_detail(detail: Any, error: dict[str, Any]) -> ReportedError:
    """Read FastAPI's error: a string, or a list of faults with locations. Those outside the body are the operator's."""
    if type(detail) is str:
        return _make(detail, error)
    if type(detail) is dict:
        return read_error({"error": detail}, nested=NESTED_MAX)
    faults = [fault for fault in detail if type(fault) is dict] if type(detail) is list else []
    params: list[str] = []
    messages: list[str] = []
    for fault in faults[:FAULTS_MAX]:
        location = fault.get("loc")
        message = fault.get("msg")
        if type(location) is not list or not location or type(message) is not str:
            continue
        if location[0] != "body":
            return ReportedError(is_about_headers=True)
        params.append(".".join(map(str, location[1:])))
        messages.append(f"{params[-1]}: {message}" if params[-1] else message)
    if not messages:
        return _make(None, error)
    is_limit = [_OUTPUT_LIMIT.fullmatch(param) is not None for param in params]
    param = params[is_limit.index(True)] if any(is_limit) else params[0]
    return _make("; ".join(messages), error | {"param": param})


def _make(message: str | None, error: dict[str, Any]) -> ReportedError:
    param = error.get("param")
    text = (message or "")[:MESSAGE_CHARACTERS_MAX]
    return ReportedError(
        message=text if text.strip() else None,
        param=param if type(param) is str and param else None,
        names=_names(error),
        status=_status(error),
    )


def _status(error: dict[str, Any]) -> int | None:
    """Return the error's code if it is an HTTP status from 400 to 599, as a number or a string. Otherwise None."""
    code = error.get("code")
    if type(code) is str and len(code) == 3 and code.isascii() and code.isdigit():
        code = int(code)
    return code if type(code) is int and 400 <= code <= 599 else None


def _names(error: dict[str, Any]) -> tuple[str, ...]:
    """Return the type, the code, the status and the reasons in Gemini's `details`."""
    details = error.get("details")
    reasons = (
        [item.get("reason") for item in details[:FAULTS_MAX] if type(item) is dict] if type(details) is list else []
    )
    names = [*map(error.get, ("type", "code", "status")), *reasons]
    return tuple(name[:128] for name in names if type(name) is str)
