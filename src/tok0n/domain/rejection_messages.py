"""Keep the message of a rejected request without any text of the client.

A message is stored as the id of a template in this module and the arguments of its placeholders, which are integers
or words that Tok0n defines.
`compact` finds them, and `expand` renders the same message again. A message that no template produces becomes that of
its error code.
"""

import functools
import re
from collections.abc import Collection, Mapping

import msgspec

from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.own_words import own_words
from tok0n.domain.errors import INTERNAL_ERROR, NOT_CHARGED, InvalidRequest, KeyBudgetSpent, KeyNotAllowed, Tok0nError
from tok0n.domain.ledger import STANDARD

Arguments = tuple[int | str, ...]

_FIELD = "A field of the request"
"""What `expand` writes for a field whose name the client chose."""

_PATH = re.compile(r"[A-Za-z][\w-]*(?:\[\d{1,9}\])*(?:\.[A-Za-z][\w-]*(?:\[\d{1,9}\])*)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_PARAMS = frozenset({"model", "budget", "endpoint", "network"})
"""Values of `param` that aren't fields of a body."""

_INTEGER = r"(-?\d{1,18})"
_WORD = r"(.+?)"


class CompactMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A template, by its id, and the arguments of its placeholders. `param` is a path of documented fields, or None."""

    template: str
    arguments: Arguments = ()
    param: str | None = None


class _Template(msgspec.Struct, frozen=True, kw_only=True):
    """`text` has the placeholders `{n}` (an integer), `{word}`, `{param}` and `{model}`.

    `pattern` is the message to recognize, if it differs. There, `{any}` is what the text leaves out.
    """

    text: str
    pattern: str = ""


def _must(text: str) -> _Template:
    return _Template(text=f"{{param}} must {text}.")


def _fixed(text: str) -> _Template:
    return _Template(text=text)


_FIELDS: dict[str, _Template] = {
    "integer": _must("be an integer from {n} to {n}"),
    "positive_integer": _must("be a positive integer"),
    "at_most_for_model": _must("be at most {n} for model {model}"),
    "number": _must("be a number from {n} to {n}"),
    "boolean": _must("be true or false"),
    "string": _must("be a string"),
    "characters_max": _must("have at most {n} characters"),
    "items_max": _must("have at most {n} items"),
    "inputs_max": _must("have at most {n} inputs"),
    "values_max": _must("have at most {n} values"),
    "object": _must("be an object"),
    "list": _must("be a list"),
    "not_empty": _must("not be empty"),
    "like_other_inputs": _must("be a text, or a list of token numbers, like all other inputs"),
    "token_number": _must("be a token number from 0 to {n}"),
    "model_id": _must("be the id of a model. GET /v1/models lists the available models"),
    "with_stream": _must("be sent only with stream: true"),
    "same_limit": _must("equal max_completion_tokens, which has the same meaning. Send only one of them"),
    "needs_type": _must("have a type, or the role of a message. References to stored items are not supported"),
    "text_modality": _must('be ["text"]: providers don\'t bill other output by the token'),
    "logit_bias": _Template(
        text="{param} must map token ids to numbers from -100 to 100.",
        pattern="{param} must map token ids to numbers from -100 to 100. The value of {any} is invalid.",
    ),
    "metadata": _must(
        "have at most 16 keys of at most 64 characters, with strings of at most 512 characters as values"
    ),
    "prediction": _must('be an object with only the members "type" (which must be "content") and "content"'),
    "prediction_content": _must("be a string or a list of text parts"),
    "date": _must("be a date such as {word}"),
    "clear_edits": _must("start with clear_: the tokens of other edits are not in the usage that providers report"),
    "typed_tool": _must("be custom, or bash, text_editor, memory or computer with its date"),
    "none_empty": _must("{word}; none may be empty"),
    "expected": _must("be {word}"),
    "expectation": _must("{word}"),
    "not_supported": _fixed("{param} is not supported: {word}."),
    "item_not_supported": _fixed("{param} {word} is not supported: {word}."),
    "unknown_field": _fixed("Unrecognized request argument supplied: {param}"),
    "extra_input": _fixed("{param}: Extra inputs are not permitted"),
    "max_tokens_required": _fixed("max_tokens is required: set it to the most tokens that the response may have."),
    "max_tokens_above": _Template(
        text="max_tokens must be at most {n} for model {model}.",
        pattern="max_tokens: {any} > {n}, which is the maximum allowed number of output tokens for {model}",
    ),
    "hosted_tool": _Template(
        text="{param} is a tool that the provider would run itself. It isn't served. Remove it from the request.",
        pattern="{param} is the tool {any}, which the provider would run itself. It isn't served. {any}",
    ),
    "part_type": _fixed("Model {model} does not accept parts of type {word}."),
    "endpoint_of_model": _Template(
        text="The model {model} is not served at POST {word}.",
        pattern="The model {model} is not served at POST {word}. Call it at {any}.",
    ),
    "model_stream": _fixed("stream must be false for model {model}, which doesn't stream on this endpoint."),
    "unknown_model": _Template(
        text="The model is not available. GET /v1/models lists the available models.",
        pattern="The model {any} is not available. GET /v1/models lists the available models.",
    ),
    "no_object": _fixed("The body must be a JSON object."),
    "nesting": _fixed("The body has too many levels of nesting."),
    "no_utf8": _fixed("The body is not valid UTF-8."),
    "empty_body": _fixed("The body is not valid JSON: it is empty."),
    "no_json": _Template(text="The body is not valid JSON.", pattern="The body is not valid JSON: {any}"),
    "members_max": _fixed("The body must have at most {n} members."),
    "containers_max": _fixed("A body of this size may have at most {n} arrays and objects."),
    "repeated_member": _Template(
        text="An object in the body has a key twice.", pattern="An object in the body has the key {any} twice."
    ),
    "compressed": _fixed("A compressed body is not supported: send it without content-encoding."),
}

_INSUFFICIENT = "This request needs up to {n} tokens"
_ACCOUNT = ". Your account has {n} available and {n} reserved by requests in progress"
_CONSEQUENCES = {
    "lower": ". Lower {word} to {n} or less.",
    "none": ", so no {word} fits.",
    "input": ". Send less input.",
}


def _insufficient() -> dict[str, _Template]:
    templates = {}
    for name, consequence in _CONSEQUENCES.items():
        for suffix, of_class in (("", ""), ("_of_class", " of the class {word}")):
            text = f"{_INSUFFICIENT}{of_class}{_ACCOUNT}{consequence}"
            templates[f"{name}{suffix}"] = _Template(text=text, pattern=f"{text}{{any}}")
    for period in ("in total", "per day", "per week", "per month"):
        for suffix, tokens in (("", "tokens"), ("_of_class", "{word} tokens")):
            budget = f"budget of {{n}} {tokens} {period}"
            text = f"{_INSUFFICIENT}, but the {budget} of this API key has {{n}} left."
            advice = f"Lower the output limit or use another API key. {NOT_CHARGED}"
            templates[f"budget_{period.replace(' ', '_')}{suffix}"] = _Template(
                text=f"{text} {advice}", pattern=f"{text} {{any}}"
            )
    return templates


_RETRY = " Wait for the seconds in the retry-after header, then retry."

_BY_CODE: dict[str, dict[str, _Template]] = {
    "invalid_request": _FIELDS,
    "invalid_api_key": {
        "disabled": _fixed("This API key is disabled. Its owner can enable it again."),
        "inactive": _fixed("This API key is no longer active."),
        "revoked": _fixed("This API key is not known here, or it was revoked."),
    },
    "account_suspended": {"suspended": _fixed("This account is suspended. Contact support.")},
    "insufficient_tokens": _insufficient(),
    "key_not_allowed": {
        "network": _Template(
            text="This API key may not be used from the IP address of this request.",
            pattern="This API key may not be used from the IP address {any}.",
        ),
        "endpoint": _fixed("This API key may not call {word}."),
        "model": _fixed("This API key may not use the model {model}."),
    },
    "request_too_large": {"body_bytes": _fixed("The request body must have at most {n} bytes.")},
    "rate_limit_error": {
        "key": _fixed("This API key has reached its limit of {n} requests per minute (key limit)." + _RETRY),
        "concurrency": _fixed(
            "This account has reached its limit of {n} concurrent requests (concurrency limit)." + _RETRY
        ),
        "global": _fixed(
            "The gateway has reached its limit of {n} upstream requests per minute for all customers (global limit)."
            + _RETRY
        ),
        "bodies": _fixed(
            "The request bodies that this account is currently sending are too large in total. Try again later."
        ),
    },
    "api_error": {
        "ledger": _fixed(f"The gateway could not record this request in the ledger. {NOT_CHARGED}"),
        "key_lookup": _fixed(f"The gateway could not look up this API key. {NOT_CHARGED}"),
        "internal": _fixed(f"{INTERNAL_ERROR} {NOT_CHARGED}"),
    },
    "rate_limit_unavailable": {
        "limiter": _fixed(f"The rate limiter is unavailable. Try again in a few seconds. {NOT_CHARGED}")
    },
    "overloaded": {"overloaded": _fixed(f"The gateway is overloaded. Try again in a few seconds. {NOT_CHARGED}")},
}
"""The templates of each error code by id. The first that matches counts, so special ones come first."""

_GENERAL = {
    "invalid_request": "The request is invalid.",
    "invalid_api_key": "This API key can't be used.",
    "insufficient_tokens": f"The balance can't cover this request. {NOT_CHARGED}",
    "key_not_allowed": "This API key may not be used for this request.",
    "request_too_large": "The request is too large.",
    "rate_limit_error": "A rate limit is reached. Try again later.",
}
_ANY_CODE = f"The request was rejected. {NOT_CHARGED}"


def compact(error: Tok0nError, *, model: str | None, words: Collection[str] = ()) -> CompactMessage:
    """Return an error's message and `param` without texts of the client.

    `model` is the declared model of the request. `words` are further allowed words: the ids of token classes.
    """
    param = error.param if isinstance(error, (InvalidRequest, KeyNotAllowed, KeyBudgetSpent)) else None
    message = error.message
    if param:
        if message.startswith(param):
            message = "{param}" + message[len(param) :]
        elif message.endswith(param):
            message = message[: -len(param)] + "{param}"
    if model is not None:
        message = re.sub(rf"(?<![\w.-]){re.escape(model)}(?![\w-]|\.\w)", "{model}", message)
    kept = param if param is not None and is_own_path(param) else None
    for template, pattern in _patterns(error.code).items():
        match = pattern.fullmatch(message)
        if match is None:
            continue
        arguments = tuple(map(_argument, match.groups()))
        if all(isinstance(word, int) or word in words or word in _known_words() for word in arguments):
            return CompactMessage(template=template, arguments=arguments, param=kept)
    return CompactMessage(template="", param=kept)


def expand(
    template: str, arguments: Arguments, *, code: str, param: str | None = None, model: str | None = None
) -> str:
    """Return the message again. An unknown template, perhaps of a newer version, gives the message of its code."""
    stored = _BY_CODE.get(code, {}).get(template)
    if stored is None:
        return _GENERAL.get(code, _ANY_CODE)
    text = stored.text
    field = param or (_FIELD if text.startswith("{param}") else _FIELD.lower())
    text = text.replace("{model}", model or "")
    values = iter(arguments)
    text = re.sub(r"\{(?:n|word)\}", lambda _: str(next(values, "")), text)
    return text.replace("{param}", field)


def is_own_path(param: str) -> bool:
    """Whether a path, such as `messages[0].content`, has only documented names."""
    return _PATH.fullmatch(param) is not None and all(
        name in _PARAMS or name in own_words() for name in _NAME.findall(param)
    )


@functools.cache
def _known_words() -> frozenset[str]:
    return own_words() | {endpoint.path for endpoint in ENDPOINTS} | {STANDARD}


@functools.cache
def _patterns(code: str) -> Mapping[str, re.Pattern[str]]:
    return {name: _compile(template) for name, template in _BY_CODE.get(code, {}).items()}


def _compile(template: _Template) -> re.Pattern[str]:
    pattern = re.escape(template.pattern or template.text)
    for name, value in (("n", _INTEGER), ("word", _WORD), ("any", ".*?")):
        pattern = pattern.replace(re.escape(f"{{{name}}}"), value)
    return re.compile(pattern, re.DOTALL)


def _argument(text: str) -> int | str:
    return int(text) if re.fullmatch(_INTEGER, text) else text
