"""Read what an upstream answered: believe it only when it is whole, and say in our own words what else it was.

Source of the shapes: OpenAI API reference, "The chat completion object" and "Error codes"; vLLM, FastAPI, Ollama and
Gemini for the shapes of errors that differ from it.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from tok0n.domain.errors import RejectedByUpstream, UpstreamFailed
from tok0n.domain.usage import Usage, read_usage

Scrub = Callable[[str], str]

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

_INPUT_STATUSES = frozenset({400, 422})
_INPUT_TYPES = frozenset({None, "", "invalid_request_error", "BadRequestError", "bad_request_error", "invalid_prompt"})
_OPERATORS_CODES = re.compile(
    r"api_key|auth|billing|quota|account|organization|project|model_not_found|permission|region"
)
_OPERATORS_WORDS = re.compile(
    r"(?i)\bapi[ -]key|\bcredit balance|\bbilling\b|\bquota\b|\bcredentials?\b|\bunauthori[sz]ed\b|\bauthenticat"
    r"|\bpermission denied|\byour (?:organi[sz]ation|account|project|plan|subscription)\b"
)
"""Some upstreams answer 400 `invalid_request_error` when the operator's key or account is at fault: the words tell."""

_KNOWN_WORDS = frozenset(
    {
        "account_deactivated",
        "authentication_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_request_error",
        "model_not_found",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "requests",
        "server_error",
        "tokens",
        "unsupported_country_region_territory",
    }
)
"""The error types and codes that may go to the operator's log: any other word could be a customer's content."""

_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")

_WHY = {
    401: "refused the gateway's credentials",
    402: "refused the gateway's account",
    403: "refused the gateway's credentials",
    404: "does not have this model",
    429: "is limiting the gateway",
}


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that can be charged: the bytes for the customer, and the usage."""

    body: bytes
    usage: Usage


def read_answer(
    status: int,
    body: bytes,
    *,
    public_model: str,
    upstream_model: str,
    scrub: Scrub,
    retry_after_seconds: float | None = None,
) -> Completion:
    """The completion in an upstream's answer. `retry_after_seconds` is what a 429 says.

    Raises `RejectedByUpstream` when the customer's input is to blame, with the upstream's scrubbed words, and
    `UpstreamFailed` for everything else.
    """
    if status != 200:
        failure = _failure(status, body, public_model=public_model, upstream_model=upstream_model, scrub=scrub)
        if status == 429 and isinstance(failure, UpstreamFailed):
            failure.retry_after_seconds = retry_after_seconds
        raise failure
    values = _decode(body)
    if not _is_completion(values):
        raise _invalid_answer(status, "with a body that is not a chat completion")
    usage = read_usage(values.get("usage"))
    if usage is None:
        raise UpstreamFailed(
            "The upstream provider returned an answer without valid usage figures.",
            detail="status 200 with missing or impossible usage",
            outcome_unknown=True,
            status=200,
        )
    return Completion(body=_with_model(body, values, public_model), usage=usage)


def _invalid_answer(status: int, what: str) -> UpstreamFailed:
    """A 2xx that cannot be used: the upstream may have done the work."""
    return UpstreamFailed(
        "The upstream provider returned an invalid answer.",
        detail=f"status {status} {what}",
        outcome_unknown=True,
        status=status,
    )


def _decode(body: bytes) -> Any:
    """The decoded body, or None for whatever cannot be decoded."""
    try:
        return _decode_values(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_completion(values: Any) -> bool:
    if type(values) is not dict:
        return False
    choices = values.get("choices")
    if type(choices) is not list or not choices:
        return False
    return all(map(_has_message, choices))


def _has_message(choice: Any) -> bool:
    return type(choice) is dict and type(choice.get("message")) is dict


def _with_model(body: bytes, values: dict[str, Any], public_model: str) -> bytes:
    if values.get("model") == public_model:
        return body
    return _encode(_decode_raw(body) | {"model": public_model})


def _failure(
    status: int, body: bytes, *, public_model: str, upstream_model: str, scrub: Scrub
) -> RejectedByUpstream | UpstreamFailed:
    if 200 <= status < 300:
        return _invalid_answer(status, "instead of 200")
    error = _error_member(_decode(body))
    message, kind, code = error.get("message"), error.get("type"), error.get("code")
    if status in _INPUT_STATUSES and _is_the_customers(message, kind, code):
        param = error.get("param")
        return RejectedByUpstream(
            scrub(str(message).replace(upstream_model, public_model)),
            param=param if type(param) is str and _PARAM.fullmatch(param) and scrub(param) == param else None,
        )
    why = _WHY.get(status, "redirected the request" if 300 <= status < 400 else "failed")
    names = [f"{name} {value}" for name, value in (("type", kind), ("code", code)) if _is_known(value)]
    return UpstreamFailed(
        f"The upstream provider {why}.", detail=", ".join([f"status {status}", *names]), status=status
    )


def _error_member(values: Any) -> dict[str, Any]:
    """The error in OpenAI's shape, whichever shape it came in: OpenAI's, Gemini's, Ollama's, vLLM's or FastAPI's."""
    if type(values) is list and values:
        values = values[0]
    if type(values) is not dict:
        return {}
    error = values.get("error")
    if type(error) is dict:
        return error
    if type(error) is str:
        return {"message": error}
    return values if values.get("object") == "error" else _of_fastapi(values.get("detail"))


def _of_fastapi(detail: Any) -> dict[str, Any]:
    """FastAPI's words: a text, or a list of faults that each say where; only those in the body are the customer's."""
    if type(detail) is str:
        return {"message": detail}
    fault = detail[0] if type(detail) is list and detail else None
    if type(fault) is not dict or type(fault.get("msg")) is not str:
        return {}
    where = fault.get("loc")
    if type(where) is not list or not where or where[0] != "body":
        return {}
    field = ".".join(map(str, where[1:]))
    return {"message": f"{field}: {fault['msg']}" if field else fault["msg"], "param": field}


def _is_the_customers(message: Any, kind: Any, code: Any) -> bool:
    """Whether the input is to blame, and not the operator's credentials, account or settings."""
    if type(message) is not str or not message.strip():
        return False
    if type(kind) not in {str, type(None)} or kind not in _INPUT_TYPES:
        return False
    if type(code) is str and _OPERATORS_CODES.search(code.lower()):
        return False
    return not _OPERATORS_WORDS.search(message)


def _is_known(value: Any) -> bool:
    return type(value) is str and value in _KNOWN_WORDS
