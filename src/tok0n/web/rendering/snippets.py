"""The endpoints that the listed models serve, with example code for each. Tests run the code."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.example import OUTPUT_TOKENS, PROMPT, Draft, Example
from tok0n.services.catalogue import Catalogue
from tok0n.web.rendering.code_literals import javascript_call, python_call

NO_MODEL = "MODEL"
"""The model in example code while no model is listed."""


class ServedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that pages show, and the listed models that serve it: at least one."""

    endpoint: Endpoint
    example: Example
    models: list[Model]

    @property
    def name(self) -> str:
        """Its name in the setting `endpoints` of a model."""
        return self.endpoint.name

    @property
    def can_stream(self) -> bool:
        """Whether one of the models streams on this endpoint."""
        return any(self.streams(model) for model in self.models)

    def streams(self, model: Model) -> bool:
        """Whether a model streams on this endpoint."""
        return self.name in model.streaming_endpoints


class Snippets(msgspec.Struct, frozen=True, kw_only=True):
    """Example code for one endpoint: a command, and programs for the SDKs of the provider `sdk`."""

    name: str
    title: str
    path: str
    sdk: str
    curl: str
    python: str
    node: str


def find_served(catalogue: Catalogue) -> list[ServedEndpoint]:
    """Return the endpoints that pages show and that a listed model serves."""
    return [
        ServedEndpoint(endpoint=endpoint, example=endpoint.example, models=models)
        for endpoint in ENDPOINTS
        if endpoint.example is not None and (models := catalogue.models_serving(endpoint))
    ]


def snippets_of(catalogue: Catalogue, base_url: str, *, allowed: Sequence[str] | None = None) -> list[Snippets]:
    """Return the snippets of each served endpoint, with the first of its models.

    `allowed` are the ids of the models that an API key may use; None allows all. If none of them is listed now, the
    only snippets are those of the first endpoint.
    """
    snippets = []
    for served in find_served(catalogue):
        ids = [model.id for model in served.models if allowed is None or model.id in allowed]
        if ids:
            snippets.append(make_snippets(served.endpoint, base_url, model=ids[0]))
    return snippets or [make_snippets(ENDPOINTS[0], base_url, model=next(iter(allowed or ()), NO_MODEL))]


def _python_arguments(example: Example, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the Python SDK's method."""
    extra = {name: value for name, value in body.items() if name in example.python_extra}
    arguments = {name: value for name, value in body.items() if name not in extra}
    return arguments | ({"extra_body": extra} if extra else {})


def with_key(snippets: Snippets, api_key: str) -> Snippets:
    """Return the snippets with an API key in place of the environment variable."""
    quoted = json.dumps(api_key)
    return msgspec.structs.replace(
        snippets,
        curl=snippets.curl.replace("$TOK0N_API_KEY", api_key),
        python=snippets.python.replace('os.environ["TOK0N_API_KEY"]', quoted).removeprefix("import os\n\n"),
        node=snippets.node.replace("process.env.TOK0N_API_KEY", quoted),
    )


def make_snippets(
    endpoint: Endpoint, base_url: str, *, model: str = NO_MODEL, body: Mapping[str, Any] | None = None
) -> Snippets:
    """Return the snippets of an endpoint that has an example. They send `body`, or else a short request to `model`."""
    example = endpoint.example
    assert example is not None
    with_limit = example.make_request(Draft(model=model, text=PROMPT, output_tokens=OUTPUT_TOKENS))
    short = with_limit if example.form.needs_limit else example.make_request(Draft(model=model, text=PROMPT))
    server_url = base_url.removesuffix("/v1")
    data = json.dumps(with_limit if body is None else body, ensure_ascii=False).replace("'", r"'\''")
    sent = short if body is None else body
    curl = f"""\
curl -i {server_url}{endpoint.path} \\
  -H "Authorization: Bearer $TOK0N_API_KEY" -H "Content-Type: application/json" \\
  -d '{data}'"""

    def fill(code: str) -> str:
        return code.replace("BASE_URL", base_url).replace("SERVER_URL", server_url)

    call = f"client.{example.call}"
    return Snippets(
        name=endpoint.name,
        title=example.title,
        path=endpoint.path,
        sdk=example.sdk.name,
        curl=curl,
        python="\n".join(
            [
                fill(example.sdk.python) + f"{example.result} = " + python_call(call, _python_arguments(example, sent)),
                example.python,
            ]
        ),
        node="\n".join(
            [fill(example.sdk.node) + f"const {example.result} = await " + javascript_call(call, sent), example.node]
        ),
    )
