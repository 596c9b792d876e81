"""An answer is believed only when it is whole; whatever else it is, nobody's secrets are told."""

import json
from typing import Any

import msgspec
import pytest

from support.fakes import ANSWER
from support.metered_requests import metered_request
from support.scripted_upstream import USAGE
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import RejectedByUpstream, UpstreamFailed
from tok0n.domain.scrub import scrub
from tok0n.domain.upstream_failures import REJECTED_WITHOUT_MESSAGE
from tok0n.domain.usage import Usage


def read(body: bytes, *, status: int = 200, public_model: str = "public") -> Answer:
    return read_answer(
        CHAT,
        status,
        body,
        request=metered_request(public_model, upstream_model="upstream-demo"),
        scrub=lambda text: scrub(text, ["operators-key"]),
    )


def failed(body: bytes, *, status: int = 200) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as failure:
        read(body, status=status)
    assert failure.value.status == status
    return failure.value


def rejected(error: Any, *, status: int = 400) -> RejectedByUpstream:
    with pytest.raises(RejectedByUpstream) as rejection:
        read(json.dumps(error).encode(), status=status)
    return rejection.value


def with_member(member: bytes) -> bytes:
    return ANSWER[:-1] + b"," + member + b"}"


def test_only_the_model_of_an_answer_changes() -> None:
    body = ANSWER.replace(b'"created":1', b'"created":1.50e0,"extra":{"a" : "\\u00e9\\/", "b":123456789012345678901}')
    completion = read(body)
    assert completion.body == body.replace(b'"upstream-demo"', b'"public"')
    assert completion.usage == Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12)


def test_an_answer_with_the_public_model_is_untouched() -> None:
    assert read(ANSWER, public_model="upstream-demo").body == ANSWER


@pytest.mark.parametrize("first", [b'"model":"upstream-demo"', b'"\\u006dodel":"upstream-demo"', b'"model":{"x":1}'])
@pytest.mark.parametrize("more", [b"", b',"x":NaN'])
def test_a_second_model_member_is_not_sent(first: bytes, more: bytes) -> None:
    body = b"{" + first + b',"model":"public",' + ANSWER[1:-1] + more + b"}"
    for last in (body, body.replace(b'"model":"upstream-demo","choices"', b'"choices"')):
        completion = read(last)
        assert b"upstream-demo" not in completion.body
        assert completion.body.count(b"odel") == 1
        assert json.loads(completion.body)["model"] == "public"


@pytest.mark.parametrize(
    "number", [b"NaN", b"-Infinity", b"Infinity", b"1E400", b"-1e999999", b"9" * 5000, b"1e5", b"0.1234567890123456789"]
)
@pytest.mark.parametrize("public_model", ["public", "upstream-demo"])
def test_a_number_that_is_not_read_travels_untouched(number: bytes, public_model: str) -> None:
    logprobs = b'"logprobs":{"content":[{"token":"a","logprob":' + number + b"}]},"
    body = ANSWER.replace(b'"message"', logprobs + b' "message"').replace(b'","choices', b'", "choices')
    completion = read(body, public_model=public_model)
    assert completion.usage.total_tokens == 12
    assert logprobs in completion.body
    assert completion.body.replace(b" ", b"") == body.replace(b" ", b"").replace(
        b"upstream-demo", public_model.encode()
    )


@pytest.mark.parametrize("member", [b'"x":"\\ud83d"', b'"\\ud83d":1'])
def test_half_a_surrogate_pair_travels_untouched(member: bytes) -> None:
    completion = read(with_member(member))
    assert member in completion.body
    assert json.loads(completion.body)["model"] == "public"


@pytest.mark.parametrize(
    "body",
    [
        with_member(b'"error":{"message":"It failed.","code":502}'),
        with_member(b'"error":"It failed."'),
        ANSWER.replace(b'"message"', b'"error":{"code":502},"message"'),
        ANSWER.replace(b'"finish_reason":"stop"', b'"finish_reason":"error"'),
    ],
)
def test_an_error_in_an_answer_is_not_billed(body: bytes) -> None:
    failure = failed(body)
    assert failure.outcome_unknown
    assert "error" in failure.detail


@pytest.mark.parametrize(
    "body", [with_member(b'"error":null'), ANSWER.replace(b'"message"', b'"error":null,"message"')]
)
def test_an_error_that_is_null_is_no_error(body: bytes) -> None:
    assert read(body).usage.total_tokens == 12


@pytest.mark.parametrize(
    "usage",
    [b'{"prompt_tokens":9,"total_tokens":12}', b'{"prompt_tokens":9,"completion_tokens":null,"total_tokens":12}'],
)
def test_missing_completion_tokens_are_the_rest_of_the_total(usage: bytes) -> None:
    completion = read(ANSWER.replace(USAGE, usage))
    assert completion.usage == Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12)


def test_a_missing_model_is_added() -> None:
    assert json.loads(read(ANSWER.replace(b'"model":"upstream-demo",', b"")).body)["model"] == "public"


@pytest.mark.parametrize("public_model", ["public", "upstream-demo"])
def test_of_a_member_given_twice_the_one_that_is_sent_is_the_one_that_was_believed(public_model: str) -> None:
    smaller = b'{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    completion = read(with_member(b'"usage":' + smaller), public_model=public_model)
    assert completion.usage.total_tokens == json.loads(completion.body)["usage"]["total_tokens"] == 2
    failed(with_member(b'"choices":[]'))
    failed(with_member(b'"usage":null'))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        ANSWER[:-1],
        ANSWER + ANSWER,
        b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ANSWER.replace(b"Hello.", b"\xff\xfe"),
        with_member(b'"x":nan'),
        with_member(b'"x":+Infinity'),
        with_member(b'"x":NaN,"y":' + b"[" * 100_000 + b"]" * 100_000),
        with_member(b'"x":NaN,"y":"\xff"'),
        ANSWER.replace(b'"choices"', b'"no_choices"'),
        b'{"choices":{},"usage":' + USAGE + b"}",
        b'{"choices":[],"usage":' + USAGE + b"}",
        b'{"choices":[{"message":{}},1],"usage":' + USAGE + b"}",
        b'{"choices":[{"message":"Hello."}],"usage":' + USAGE + b"}",
        b'{"error":{"message":"It failed."}}',
    ],
)
def test_what_is_no_completion_is_an_invalid_answer_of_unknown_outcome(body: bytes) -> None:
    failure = failed(body)
    assert failure.message == "The upstream provider returned an invalid response. You were not charged."
    assert failure.outcome_unknown


@pytest.mark.parametrize(
    "usage",
    [
        b"null",
        b"{}",
        b"[]",
        b'"12"',
        *(
            b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":' + total + b"}"
            for total in [
                b"null", b"-1", b'"12"', b"true", b"12.0", b"1e2", b"0", b"11",
                b"9007199254740993", b"9223372036854775808", b"9" * 30, b"9" * 5000, b"NaN", b"1e999",
            ]
        ),
    ],
)  # fmt: skip
def test_an_answer_without_valid_usage_says_so(usage: bytes) -> None:
    failure = failed(ANSWER.replace(USAGE, usage))
    assert failure.message.startswith("The upstream provider returned a response without valid token usage.")
    assert failure.outcome_unknown


def test_an_answer_without_usage_says_so() -> None:
    assert "usage" in failed(ANSWER.replace(b',"usage":' + USAGE, b"")).message


@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_another_success_than_200_may_have_done_the_work(status: int) -> None:
    assert failed(ANSWER, status=status).outcome_unknown


@pytest.mark.parametrize(
    ("error", "message", "param"),
    [
        (
            {"error": {"message": "Too long.", "type": "invalid_request_error", "param": "messages"}},
            "Too long.",
            "messages",
        ),
        ({"error": {"message": "Too long.", "code": "context_length_exceeded"}}, "Too long.", None),
        ({"object": "error", "message": "Too long.", "type": "BadRequestError", "code": 400}, "Too long.", None),
        ([{"error": {"code": 400, "message": "Bad role.", "status": "INVALID_ARGUMENT"}}], "Bad role.", None),
        ({"error": "Too long."}, "Too long.", None),
        ({"detail": "Too long."}, "Too long.", None),
        ({"detail": [{"loc": ["body", "tools", 0], "msg": "Required", "input": "x"}]}, "tools.0: Required", "tools.0"),
        ({"detail": [{"loc": ["body"], "msg": "Required"}]}, "Required", None),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_the_customers_mistake_is_told_in_the_upstreams_words(
    status: int, error: Any, message: str, param: str | None
) -> None:
    rejection = rejected(error, status=status)
    assert (rejection.message, rejection.param) == (message, param)


def test_the_upstreams_words_hold_no_secret_and_not_its_name_for_the_model() -> None:
    rejection = rejected(
        {"error": {"message": "upstream-demo at http://10.0.0.1/v1 refused operators-key", "param": "operators-key"}}
    )
    assert rejection.message == "public at [redacted] refused [redacted]"
    assert rejection.param is None


@pytest.mark.parametrize("param", [1, "", "a b", "<b>", "x" * 200, ["messages"], "é"])
def test_a_param_that_names_no_field_is_left_out(param: Any) -> None:
    assert rejected({"error": {"message": "No.", "param": param}}).param is None


@pytest.mark.parametrize(
    "error",
    [
        {"message": "No.", "type": "invalid_request_error", "code": "invalid_api_key"},
        {"message": "No.", "type": "invalid_request_error", "code": "insufficient_quota"},
        {"message": "No.", "type": "invalid_request_error", "code": "billing_not_active"},
        {"message": "No.", "type": "invalid_request_error", "code": "model_not_found"},
        {"message": "No.", "type": "invalid_request_error", "code": "account_deactivated"},
        {"message": "No.", "type": "authentication_error"},
        {"message": "No.", "type": "server_error"},
        {"message": "Your credit balance is too low to access the Anthropic API.", "type": "invalid_request_error"},
        {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"},
        {"message": "Your organization must be verified.", "type": "invalid_request_error"},
    ],
)
def test_the_operators_fault_is_not_told_as_the_customers(error: dict[str, Any]) -> None:
    failure = failed(json.dumps({"error": error}).encode(), status=400)
    assert failure.message == "The upstream provider failed. You were not charged."
    assert "about" in failure.detail
    assert not failure.outcome_unknown


@pytest.mark.parametrize("message", [" ", {"text": "No."}, None, 1, [], [[]], "org-AbCdEf123456", "operators-key."])
def test_a_rejection_without_words_gets_ours(message: Any) -> None:
    assert rejected({"error": {"message": message}}).message == REJECTED_WITHOUT_MESSAGE


@pytest.mark.parametrize("kind", [["x"], {}, 1, None, "", "Bad Request", "None"])
def test_an_unknown_type_of_error_is_the_customers(kind: Any) -> None:
    assert rejected({"error": {"message": "Too long.", "type": kind}}).message == "Too long."


def test_the_upstreams_model_is_replaced_as_a_whole_word_only() -> None:
    message = "upstream-demo, my-upstream-demo, upstream-demo-2, upstream-demo.5; Upstream-Demo. models/upstream-demo"
    shown = "public, my-upstream-demo, upstream-demo-2, upstream-demo.5; public. models/public"
    assert rejected({"error": {"message": message}}).message == shown


def test_words_of_the_customers_own_tools_do_not_make_it_the_operators_fault() -> None:
    message = "Invalid schema for function 'get_billing_quota': set_api_key is not permitted"
    assert rejected({"error": {"message": message, "type": "invalid_request_error"}}).message == message


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"error":', b"\xff", b'{"detail":[{"loc":["header","x"],"msg":"Required"}]}'],
)
def test_a_400_that_is_no_json_or_about_our_headers_is_a_failure(body: bytes) -> None:
    assert not failed(body, status=400).outcome_unknown


@pytest.mark.parametrize("body", [b"[]", b"[[]]", b"1", b"{}", b'{"detail":[]}', b'{"detail":[1]}', b'{"error":[]}'])
def test_a_400_of_an_unknown_shape_is_the_customers_with_our_words(body: bytes) -> None:
    assert rejected(json.loads(body)).message == REJECTED_WITHOUT_MESSAGE


@pytest.mark.parametrize("status", [301, 307, 401, 402, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504])
def test_every_other_status_is_told_in_our_words_only(status: int) -> None:
    error = {"message": "The prompt: PLANTED", "type": "PLANTED", "code": "invalid_api_key", "param": "PLANTED"}
    failure = failed(json.dumps({"error": error}).encode(), status=status)
    assert failure.message.startswith("The upstream provider ")
    assert failure.detail == f"status {status}, invalid_api_key"
    assert "PLANTED" not in failure.message


def test_a_completion_can_be_read_again() -> None:
    assert msgspec.json.decode(read(ANSWER).body) == json.loads(ANSWER) | {"model": "public"}
