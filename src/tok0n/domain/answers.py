"""Read an upstream's response. Accept only a complete, valid one.

The endpoint knows the shape of its responses, and `upstream_failures` describes any other response.
"""

import msgspec

from tok0n.domain.answer_json import decode, replace_member
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.upstream_failures import Scrub, invalid_response, missing_usage, read_failure
from tok0n.domain.usage import Usage


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A billable answer: the body for the customer, and the usage to charge."""

    body: bytes
    usage: Usage


def read_answer(
    endpoint: Endpoint,
    status: int,
    body: bytes,
    *,
    request: MeteredRequest,
    scrub: Scrub,
    retry_after_seconds: float | None = None,
) -> Answer:
    """Return the answer in an upstream's response to `request`. `retry_after_seconds` is from the header of a 429.

    Raises `RejectedByUpstream` with the upstream's scrubbed message if the customer's input is at fault, and
    `UpstreamFailed` for any other failure.
    """
    if status != 200:
        raise read_failure(
            status,
            body,
            public_model=request.model.id,
            upstream_model=request.route.upstream_model,
            scrub=scrub,
            retry_after_seconds=retry_after_seconds,
        )
    values = decode(body)
    fault = endpoint.find_fault(values, request)
    if fault is not None:
        raise invalid_response(status, fault)
    usage = endpoint.read_usage(values)
    if usage is None:
        raise missing_usage()
    if endpoint.is_billed or "model" in values:  # A billed answer always names its model, and a count needs none.
        body = replace_member(body, "model", request.model.id)
    return Answer(body=body, usage=usage)
