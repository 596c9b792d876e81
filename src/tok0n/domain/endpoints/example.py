"""How pages show an endpoint: the code that calls it, and its form in the playground.

Code has the placeholders `BASE_URL`, which ends with /v1, and `SERVER_URL`, which doesn't.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tok0n.domain.conversation import Turn

PROMPT = "Hello!"
"""The text that the example code sends."""

OUTPUT_TOKENS = 200
"""The output limit that the example code sends."""


class Sdk(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's official SDKs. `python` and `node` import them and create `client`."""

    name: str
    python: str
    node: str


OPENAI = Sdk(
    name="OpenAI",
    python="""\
import os

from openai import OpenAI

client = OpenAI(base_url="BASE_URL", api_key=os.environ["TOK0N_API_KEY"])
""",
    node="""\
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "BASE_URL", apiKey: process.env.TOK0N_API_KEY });
""",
)
ANTHROPIC = Sdk(
    name="Anthropic",
    python="""\
import os

from anthropic import Anthropic

client = Anthropic(base_url="SERVER_URL", api_key=os.environ["TOK0N_API_KEY"])
""",
    node="""\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "SERVER_URL", apiKey: process.env.TOK0N_API_KEY });
""",
)
"""Anthropic's SDKs add /v1 to the base URL themselves."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A request with one text, and the turns of the conversation before it.

    A request leaves out `system` if it is empty, and `output_tokens` and `temperature` if they are None. Endpoints
    without conversations ignore `temperature` and `earlier`.
    """

    model: str
    text: str
    system: str = ""
    output_tokens: int | None = None
    temperature: float | None = None
    earlier: Sequence[Turn] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The members that all endpoints with conversations name alike."""
        return {} if self.temperature is None else {"temperature": self.temperature}


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What the playground shows of a response: a text, or else a JSON value, and counts by their labels."""

    content: Any
    counts: tuple[tuple[str, int], ...] = ()


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """The form of an endpoint in the playground.

    `text_label` and `system_label` are the labels of the two texts. Without a `system_label`, there is only one text.
    `text_noun` names the first one in errors. `limit_param` is the field of the request for the output limit, which the
    customer can leave out unless `needs_limit`; empty without one. `system_param` is that of the second text, if it is
    a field. `has_turns`: a request has the turns of a conversation, and a temperature.
    """

    text_label: str
    text_noun: str = "message"
    system_label: str = ""
    system_param: str = ""
    limit_param: str = ""
    needs_limit: bool = False
    has_turns: bool = True

    @property
    def has_limit(self) -> bool:
        """Whether the form has an output limit."""
        return bool(self.limit_param)

    def input_of(self, param: str | None) -> str:
        """Return the input that an error about a field of the request belongs to: `user` for all other fields."""
        inputs = {"model": "model", "stream": "model", "temperature": "temperature"}
        inputs |= {self.system_param: "system", self.limit_param: "limit"}
        return inputs.get(param or "user", "user")


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """How pages show one endpoint.

    - `title`: what the endpoint returns, as a heading.
    - `sdk`: the SDKs that call it.
    - `call`: the method of their client, which takes the members of the body.
    - `python_extra`: the members that the Python SDK takes only in its argument `extra_body`.
    - `result`: the variable for the response. `python` and `node` print it.
    - `form`: the form of the playground.
    - `make_request`: returns the body of a request.
    - `read_output`: returns what to show of a decoded response that `find_fault` accepts.
    - `read_delta`: returns the text that one decoded event of a stream adds.
    """

    title: str
    sdk: Sdk
    call: str
    result: str
    python: str
    node: str
    form: Form
    make_request: Callable[[Draft], dict[str, Any]]
    read_output: Callable[[Mapping[str, Any]], Output]
    read_delta: Callable[[Any], str] = lambda _: ""
    python_extra: tuple[str, ...] = ()


def join_texts(items: Any, kind: str) -> str:
    """Return the texts of the items that have a `type` of this kind, one after the other."""
    if type(items) is not list:
        return ""
    texts = (item.get("text") for item in items if type(item) is dict and item.get("type") == kind)
    return "".join(text for text in texts if type(text) is str)
