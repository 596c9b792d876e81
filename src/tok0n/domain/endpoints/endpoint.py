"""What differs between the metered endpoints: those that reserve tokens and call an upstream."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model
from tok0n.domain.endpoints.example import Example
from tok0n.domain.errors import Tok0nError
from tok0n.domain.json_text import JsonText
from tok0n.domain.ledger import Receipt
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.usage import Usage

FindModel = Callable[[str], Model | None]
"""Returns the listed model of an id."""


NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})


class ReadRequest(Protocol):
    """Reads and bounds a request."""

    def __call__(
        self,
        body: JsonText,
        *,
        find_model: FindModel,
        is_streaming: bool = False,
        headers: Mapping[bytes, bytes] = NO_HEADERS,
    ) -> MeteredRequest:
        """Return the request. Raises `InvalidRequest`, which names the field, or `UnknownModel`.

        `is_streaming`: the gateway streams, so the request may ask for a stream of a model that streams. `headers` are
        the client's, by lower-case name.
        """


class RenderError(Protocol):
    """Renders the body of an error, in the shape that the clients of the endpoint expect."""

    def __call__(self, *, message: str, code: str, param: str | None, request_id: str | None = None) -> bytes:
        """Return the JSON document. Each code has a type in `error_shapes`."""


class VerificationRequest(Protocol):
    """Makes the body of the tiny request that verifies a model."""

    def __call__(self, model: Model, output_tokens: int, prompt: str = VERIFICATION_PROMPT) -> dict[str, Any]:
        """`output_tokens` is the output limit."""


class FindFault(Protocol):
    """Finds what is wrong with the decoded body of a response with status 200."""

    def __call__(self, values: Any, request: MeteredRequest) -> str | None:
        """Return the fault as the end of the sentence "The upstream provider responded …", or None."""


class StreamReader(Protocol):
    """Reads one stream of an upstream, and renders what the client gets. It does no I/O."""

    @property
    def events_read(self) -> int:
        """How many events were read. Comments are no events."""

    @property
    def has_content(self) -> bool:
        """Whether an event with content was read, or the answer is complete. Until then, nothing is sent."""

    @property
    def usage(self) -> Usage | None:
        """The last valid report."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer is complete and has a valid report, so it is charged whatever follows."""

    @property
    def has_ended(self) -> bool:
        """Whether the upstream has said that the stream is over. Settle now."""

    @property
    def failure(self) -> Tok0nError | None:
        """Why the stream can't be charged. It is set once, and nothing is read after it."""

    def feed(self, piece: bytes) -> bytes:
        """Read bytes as they arrive. Returns the whole events to relay now, rendered for the client.

        The events that tell a client that the answer is complete are never among them.
        """

    def end(self) -> bytes:
        """Read the clean end of the body, at which a last event without its blank line counts. Returns as `feed`.

        Sets `failure` unless `is_complete`.
        """

    def render_completion(self, receipt: Receipt) -> bytes:
        """Render the events that tell the client that the answer is complete and charged."""

    def render_failure(self, error: Tok0nError, *, request_id: str) -> bytes:
        """Render the error event. No event may follow it."""

    def render_keep_alive(self) -> bytes:
        """Render what keeps a silent connection open: a comment, or an event if clients ignore comments."""


class ReadStream(Protocol):
    """Makes the reader of one stream."""

    def __call__(self, request: MeteredRequest, *, event_bytes_max: int, scrub: Callable[[str], str]) -> StreamReader:
        """`event_bytes_max` limits one event of the upstream. `scrub` removes the upstream's secrets from a text."""


class Schemas(Protocol):
    """Generates the JSON schemas of an endpoint by name. `is_streaming`: the gateway streams."""

    def __call__(self, *, is_streaming: bool) -> dict[str, Any]:
        """Return the schemas."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What the OpenAPI document says of an endpoint. `schemas` has the two schemas by name, and those they refer to."""

    id: str
    summary: str
    request_schema: str
    response_schema: str
    schemas: Schemas


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: data and pure functions.

    - `name`: its name in the log and in the setting `endpoints` of a model.
    - `path`: where customers call it.
    - `guide_topic`: the topic of the endpoint's page in the guide; empty if there is none.
    - `has_output_limit`: whether a request can limit its output. Otherwise a model needs no `max_output_tokens` for it.
    - `upstream_path`: where we call it, below the base URL of an upstream.
    - `operation`: the id, summary and schemas for the OpenAPI document.
    - `read_request`: reads and bounds a request.
    - `find_fault`: finds what is wrong with the decoded body of a response with status 200.
    - `read_usage`: returns the usage in such a body, or None if it is missing or impossible.
    - `render_error`: renders the body of an error.
    - `verification_request`: returns the body of the tiny request that verifies a model.
    - `ended_before_output`: whether the output limit ended a decoded response before it said anything.
    - `read_stream`: makes the reader of a stream; None if the endpoint doesn't stream.
    - `has_stream_options`: upstreams know the field `stream_options`, and may report usage in every event.
    - `failure_ends_stream`: the error event is the API's own end of a stream, so the response ends properly after it.
      Otherwise it is cut, so that no client takes it for complete.
    - `served_with`: the endpoint whose name a model lists to serve this one, if that is another.
    - `is_billed`: False if an answer costs nothing. A request then still reserves its bound, so that an account
      without tokens can't use the provider, and takes no concurrency slot.
    - `key_header`: a header that may hold the API key instead of Authorization.
    - `request_id_header`: a second header for the request id.
    - `example`: how pages show it; None if they don't offer it on its own.
    """

    name: str
    path: str
    upstream_path: str
    operation: Operation
    read_request: ReadRequest
    find_fault: FindFault
    read_usage: Callable[[Mapping[str, Any]], Usage | None]
    render_error: RenderError
    verification_request: VerificationRequest
    ended_before_output: Callable[[Mapping[str, Any]], bool]
    read_stream: ReadStream | None = None
    has_stream_options: bool = False
    failure_ends_stream: bool = False
    guide_topic: str = ""
    has_output_limit: bool = True
    served_with: str = ""
    is_billed: bool = True
    key_header: bytes = b""
    request_id_header: bytes = b""
    example: Example | None = None

    @property
    def listed_name(self) -> str:
        """The name by which models and API keys list this endpoint."""
        return self.served_with or self.name

    def is_served_by(self, model: Model) -> bool:
        """Whether the model lists this endpoint."""
        return self.listed_name in model.endpoints
