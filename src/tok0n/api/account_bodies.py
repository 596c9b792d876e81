"""The bodies of GET /v1/key, /v1/balance, /v1/requests and /v1/usage. The OpenAPI document includes their schemas."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tok0n.domain.budgets import ResetPeriod
from tok0n.domain.ledger import RequestStatus
from tok0n.domain.rejections import REJECTED
from tok0n.domain.usage import TOKENS_MAX

Status = Annotated[str, Meta(extra_json_schema={"enum": [status.lower() for status in RequestStatus]})]
Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget of an API key, and its use in the current period."""

    tokens: Annotated[Tokens, Meta(description="The tokens that the key can spend in each period.")]
    period: Annotated[str, Meta(extra_json_schema={"enum": [str(period) for period in ResetPeriod]})]
    token_class: Annotated[
        str | None, Meta(description="The class of the tokens that count. Null if all of them count.")
    ]
    spent: Tokens
    pending: Annotated[Tokens, Meta(description="The tokens that requests in progress have reserved.")]
    resets_at: Annotated[
        int | None, Meta(description="The end of the period, in seconds since the Unix epoch. Null for a total.")
    ]


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="key"):
    """An API key, without its secret."""

    id: str
    name: str
    shown_as: Annotated[str, Meta(description="The first and last characters of the key.")]
    created_at: Annotated[int, Meta(description="Seconds since the Unix epoch.")]
    expires_at: Annotated[int | None, Meta(description="Seconds since the Unix epoch. Null if the key doesn't expire.")]
    models: Annotated[
        tuple[str, ...] | None, Meta(description="The models that the key can call. Null if it can call all models.")
    ]
    budget: Annotated[
        int | None,
        Meta(description="The tokens of the budget that never resets and counts every class. Null without one."),
    ]
    spent: Annotated[Tokens, Meta(description="All tokens that the key was ever charged.")]
    budgets: tuple[Budget, ...]


class ClassBalance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tokens of an account in one token class."""

    token_class: str
    title: Annotated[str, Meta(description="The name of the class. A retired class has its ID as name.")]
    posted: Tokens
    pending: Tokens
    available: Tokens


class Balance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="balance"):
    """The tokens of an account. `posted`, `pending` and `available` are those of the class `standard`."""

    posted: Annotated[Tokens, Meta(description="The tokens that the account owns.")]
    pending: Annotated[Tokens, Meta(description="The tokens that requests in progress have reserved.")]
    available: Annotated[Tokens, Meta(description="The tokens that a new request can reserve.")]
    classes: Annotated[
        list[ClassBalance],
        Meta(
            description="The tokens of each class: those that the server offers, and retired ones of this account. A"
            " request pays with tokens of its model's class, which `GET /v1/models` gives as `token_class`."
        ),
    ]


class ReceiptUsage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The usage that the provider reported."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    details: dict[str, Tokens]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="request"):
    """The tokens that one request reserved, and its charge."""

    id: str
    api_key_id: str
    model: str
    status: Status
    billed: bool
    code: Annotated[str | None, Meta(description="The error code that says why the request was not billed.")]
    reserved: Tokens
    charged: Tokens
    released: Tokens
    usage: ReceiptUsage | None
    upstream_ms: Annotated[int, Meta(ge=0)] | None
    endpoint: str
    stream: bool
    first_event_ms: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="The milliseconds until the provider's first event with content. Null for a whole answer."),
    ]
    ended: Annotated[
        str | None,
        Meta(
            description="How a stream ended: `completed`, `client_left`, or the code that says why it was not billed."
            " Null for a whole answer, and while the stream runs."
        ),
    ]
    created_at: Annotated[float, Meta(description="Seconds since the Unix epoch.")]
    resolved_at: float | None


class RejectedReceipt(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="request"
):
    """A request that ended with an error before it reserved tokens."""

    id: str
    api_key_id: str
    model: Annotated[str | None, Meta(description="The model, or null if the request named none that exists here.")]
    status: Annotated[str, Meta(extra_json_schema={"enum": [REJECTED]})] = REJECTED
    billed: Annotated[bool, Meta(extra_json_schema={"enum": [False]})] = False
    http_status: Annotated[int, Meta(ge=400, le=599)]
    code: Annotated[str, Meta(description="The error code.")]
    param: Annotated[str | None, Meta(description="The field that the error is about.")]
    message: Annotated[str, Meta(description="The error's message, without names that the client chose.")]
    endpoint: str
    created_at: Annotated[float, Meta(description="Seconds since the Unix epoch.")]


RECEIPTS = [{"$ref": f"#/components/schemas/{body.__name__}"} for body in (Receipt, RejectedReceipt)]
"""The schemas of a request of the account."""


class RequestList(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="list"
):
    """Requests of the account, newest first."""

    data: Annotated[list[Any], Meta(extra_json_schema={"items": {"anyOf": RECEIPTS}})]
    has_more: bool
    last_id: Annotated[str | None, Meta(description="Send it as `after` to get the next page. Null without requests.")]


class DayUsage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="usage"):
    """The billed requests of one UTC day, of a model or key if `group_by` names one."""

    day: Annotated[str, Meta(description="The UTC day, for example 2026-11-29.")]
    model: str | None
    api_key_id: str | None
    requests: Tokens
    prompt_tokens: Tokens
    completion_tokens: Tokens
    charged: Tokens


class UsageList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="object", tag="list"):
    """The usage of the account by UTC day, oldest first. Days without usage are left out."""

    data: list[DayUsage]


def account_schemas() -> dict[str, Any]:
    """Return the JSON schemas of the bodies, by name."""
    bodies = (Key, Balance, Receipt, RejectedReceipt, RequestList, UsageList)
    return msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")[1]
