"""Every documented field of POST /v1/embeddings travels or is rejected by name; what isn't documented is rejected."""

from typing import Any, get_type_hints

import msgspec
import pytest
from openai.types import embedding_create_params

from support.models import make_model
from tok0n.api.openapi import document
from tok0n.domain.bound import MESSAGE_TOKENS
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.embeddings import DIMENSIONS_MAX, FIELDS, INPUTS_MAX, TOKEN_ID_MAX, read_embeddings_request
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(endpoints=("embeddings",))
DOCUMENTED = set(get_type_hints(embedding_create_params.EmbeddingCreateParams))

TRAVELS: dict[str, list[Any]] = {
    "model": ["m"],
    "input": ["Hi", ["Hi", "ho"], [1, 2], [[1, 2], [3]], ["x"] * INPUTS_MAX, [TOKEN_ID_MAX]],
    "encoding_format": ["float", "base64"],
    "dimensions": [1, DIMENSIONS_MAX],
    "user": ["u"],
}
REJECTED: dict[str, list[Any]] = {
    "model": ["other", 7, None],
    "input": [
        *(None, "", [], 7, True, {}, [""], [[]], ["a", ""], [[1], []], ["a", [1]], [[1], "a"], [1, "a"], ["a", 1]),
        *([-1], [True], [1.5], [TOKEN_ID_MAX + 1], [[-1]], [[True]], [[[1]]], [None], ["x"] * (INPUTS_MAX + 1)),
    ],
    "encoding_format": ["int8", "", 7, [], {}],
    "dimensions": [0, -1, True, 1.5, "1", DIMENSIONS_MAX + 1, []],
    "user": [7, [], {}, True],
}


def read(model: Model = MODEL, /, **fields: Any) -> MeteredRequest:
    body = msgspec.json.encode({"model": "m", "input": "Hi"} | fields)
    return read_embeddings_request(body, find_model=lambda name: model if name == "m" else None)


def test_every_documented_field_has_been_decided_about() -> None:
    assert set(TRAVELS) == set(REJECTED) == set(FIELDS) == DOCUMENTED


def test_the_openapi_document_offers_exactly_the_accepted_fields() -> None:
    schemas = document(endpoints=ENDPOINTS)["components"]["schemas"]
    assert set(schemas["EmbeddingsRequest"]["properties"]) == DOCUMENTED


@pytest.mark.parametrize("name", TRAVELS)
def test_what_is_accepted_travels_untouched(name: str) -> None:
    for value in TRAVELS[name]:
        sent = msgspec.json.decode(read(**{name: value}).upstream_body)
        expected = {"model": "um", "input": "Hi"} | {name: "um" if name == "model" else value}
        assert sent == expected


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_rejected_is_rejected_by_name(name: str) -> None:
    for value in REJECTED[name]:
        with pytest.raises(InvalidRequest) as rejected:
            read(**{name: value})
        assert (rejected.value.param or "").startswith(name), value
        assert name in rejected.value.message, value


@pytest.mark.parametrize("name", sorted(DOCUMENTED - {"model", "input"}))
def test_null_means_not_given(name: str) -> None:
    assert msgspec.json.decode(read(**{name: None}).upstream_body).get(name) is None


@pytest.mark.parametrize("name", ["zzz", "stream", "max_tokens", "messages", "stream_options"])
def test_an_unknown_field_is_rejected_unless_it_is_null_or_allowed(name: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read(**{name: 1})
    assert rejected.value.param == name
    assert name not in msgspec.json.decode(read(**{name: None}).upstream_body)
    allowing = msgspec.structs.replace(MODEL, extra_fields=(name,))
    assert msgspec.json.decode(read(allowing, **{name: 1}).upstream_body)[name] == 1


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ("Hello", 5 + MESSAGE_TOKENS),
        (["Hello", "you"], 8 + 2 * MESSAGE_TOKENS),
        ([1, 2, 3], 3),
        ([[1, 2, 3], [4]], 4),
        ("ä", 2 + MESSAGE_TOKENS),
    ],
)
def test_a_request_is_bounded_by_the_bytes_of_its_texts_and_the_length_of_its_tokens(given: Any, bound: int) -> None:
    request = read(input=given)
    assert (request.prompt_bound, request.output_bound) == (bound, 0)
    window = msgspec.structs.replace(MODEL, context_window_tokens=2)
    assert read(window, input=given).prompt_bound == 2 * request.inputs - (given == [[1, 2, 3], [4]])
