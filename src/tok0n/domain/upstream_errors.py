"""Read the error in an upstream's 400 or 422, and decide whether it is the customer's or the operator's.

It is the customer's unless it is about the operator's credentials, quota or model settings: an error that this
deny-list misses reaches a customer who cannot fix it, but an honest error that an allow-list misses makes SDKs retry
a request that never works.

Sources of the shapes: OpenAI, Azure OpenAI, Anthropic, Gemini, Mistral, DeepSeek, xAI, Groq, OpenRouter, Together,
Fireworks, DashScope and Bedrock; vLLM, SGLang, llama.cpp, TGI, Ollama, LiteLLM and FastAPI. `tests/support/
upstream_errors.py` has one example of each.
"""

import re
from typing import Any

import msgspec

MESSAGE_CHARACTERS_MAX = 4_000
"""How much of a message is read: every pattern is linear, and an error is short or not worth showing."""

FAULTS_MAX = 5
"""How many faults of a validation error are reported."""

NESTED_MAX = 3
"""How deep an error may be wrapped into others."""

_decode = msgspec.json.Decoder().decode

_FAILURES = frozenset({"server_error", "internal_server_error", "internal_error", "api_error", "overloaded_error"})
"""Types by which an upstream calls a 400 its own failure."""

_OUTPUT_LIMIT = re.compile(r"\bmax_(?:completion_)?tokens\b")
_UNSUPPORTED = re.compile(
    r"(?i)\bunsupported|\bunrecogni[sz]ed|\bunknown\b|\bunexpected\b|\bextra (?:inputs?|fields?)\b|\bforbidden"
    r"|\bnot (?:supported|permitted|allowed)"
)
_QUOTED = re.compile(r"""(?<!\w)(?:'[^']*'|"[^"]*"|`[^`]*`)(?!\w)""")
"""What an upstream quotes may be the customer's own words."""

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


class ReportedError(msgspec.Struct, frozen=True, kw_only=True):
    """An error as the upstream reports it. `message` is None if its shape is not known.

    `names` holds its type, code and the like.
    """

    message: str | None = None
    param: str | None = None
    names: tuple[str, ...] = ()
    is_about_headers: bool = False


UNKNOWN = ReportedError()


def read_error(values: Any, *, nested: int = 0) -> ReportedError:
    """The error in a decoded body."""
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
    """What makes an error the operator's: "credentials", "quota" or "model settings". None if it is the customer's."""
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


def _read_object(error: dict[str, Any], *, nested: int) -> ReportedError:
    """OpenAI's error object, and those of others that hold another error."""
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
    """An error whose message is the JSON of another error: OpenRouter, Mistral."""
    try:
        inner = read_error(_decode(text), nested=nested + 1)
    except (msgspec.DecodeError, RecursionError):
        inner = UNKNOWN
    if inner.message is None and not inner.names:
        return _make(text, error)
    names = inner.names + _names(error)
    return msgspec.structs.replace(inner, names=names)


def _read_detail(detail: Any, error: dict[str, Any]) -> ReportedError:
    """FastAPI's error: a text, or a list of faults, each with its place. A fault in a header is the operator's."""
    if type(detail) is str:
        return _make(detail, error)
    if type(detail) is dict:
        return read_error({"error": detail}, nested=NESTED_MAX)
    faults = [fault for fault in detail if type(fault) is dict] if type(detail) is list else []
    places: list[str] = []
    texts: list[str] = []
    for fault in faults[:FAULTS_MAX]:
        where = fault.get("loc")
        text = fault.get("msg")
        if type(where) is not list or not where or type(text) is not str:
            continue
        if where[0] != "body":
            return ReportedError(is_about_headers=True)
        places.append(".".join(map(str, where[1:])))
        texts.append(f"{places[-1]}: {text}" if places[-1] else text)
    if not texts:
        return _make(None, error)
    is_limit = [_OUTPUT_LIMIT.fullmatch(place) is not None for place in places]
    param = places[is_limit.index(True)] if any(is_limit) else places[0]
    return _make("; ".join(texts), error | {"param": param})


def _make(message: str | None, error: dict[str, Any]) -> ReportedError:
    param = error.get("param")
    shown = None if message is None else message[:MESSAGE_CHARACTERS_MAX]
    return ReportedError(
        message=shown if shown is not None and shown.strip() else None,
        param=param if type(param) is str and param else None,
        names=_names(error),
    )


def _names(error: dict[str, Any]) -> tuple[str, ...]:
    """Type, code, status and, of Gemini, the reasons in the details."""
    details = error.get("details")
    reasons = (
        [item.get("reason") for item in details[:FAULTS_MAX] if type(item) is dict] if type(details) is list else []
    )
    found = [*map(error.get, ("type", "code", "status")), *reasons]
    return tuple(name[:128] for name in found if type(name) is str)
