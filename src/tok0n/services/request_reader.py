"""Read and bound requests: small ones on the event loop, large ones one at a time in a thread."""

from collections.abc import Mapping

import msgspec

from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.json_text import JsonText
from tok0n.domain.metered_request import MeteredRequest
from tok0n.services.catalogue import Catalogue
from tok0n.services.work_queue import WorkQueue

LARGE_BODY_BYTES = 64 * 1024
"""Reading a body of up to this size takes well under a millisecond."""

DECODING_THREADS = 1
"""Decoding holds the GIL, so more threads would not decode faster and would block the event loop for longer."""

DECODING_WAITING_MAX = 32
"""The most large bodies that can wait for decoding."""

BOUNDING_WAITING_MAX = 16
"""The most admitted requests that can wait for their exact bound, which one thread computes."""


class _Model(msgspec.Struct):
    """The only member that is decoded of the body of an invalid request."""

    model: str


_decode_model = msgspec.json.Decoder(_Model).decode


class RequestReader:
    """Reads and bounds the requests of all callers. `is_streaming`: the gateway streams."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        is_streaming: bool = False,
        decoding_waiting_max: int = DECODING_WAITING_MAX,
        bounding_waiting_max: int = BOUNDING_WAITING_MAX,
    ) -> None:
        self._catalogue = catalogue
        self._is_streaming = is_streaming
        self._decoding = WorkQueue("large bodies", threads=DECODING_THREADS, waiting_max=decoding_waiting_max)
        self._bounding = WorkQueue("exact bounds", threads=1, waiting_max=bounding_waiting_max)

    def read_now(
        self, endpoint: Endpoint, body: JsonText, headers: Mapping[bytes, bytes] = NO_HEADERS
    ) -> MeteredRequest:
        """Read a request in the current thread. Raises `InvalidRequest`, with the declared model that was asked for."""
        try:
            return endpoint.read_request(
                body, find_model=self._catalogue.find, is_streaming=self._is_streaming, headers=headers
            )
        except InvalidRequest as error:
            error.model = self._declared_model(body)
            raise

    def _declared_model(self, body: JsonText) -> str | None:
        """Return the model in the body of an invalid request, or None if the operator doesn't declare it."""
        try:
            model = _decode_model(body).model
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return model if self._catalogue.is_declared(model) else None

    async def read(
        self, endpoint: Endpoint, body: JsonText, headers: Mapping[bytes, bytes] = NO_HEADERS
    ) -> MeteredRequest:
        """Read a request, in a thread if it is large. Raises `InvalidRequest`, or `Overloaded` if the queue is full."""
        if len(body) <= LARGE_BODY_BYTES:
            return self.read_now(endpoint, body, headers)
        return await self._decoding.run(self.read_now, endpoint, body, headers)

    def with_exact_bound_now(self, request: MeteredRequest) -> MeteredRequest:
        """Return the request with its exact bound, computed in the current thread."""
        return request.with_exact_bound()

    async def with_exact_bound(self, request: MeteredRequest) -> MeteredRequest:
        """Return the request with its exact bound, computed in a thread if that is expensive. Raises `Overloaded`."""
        if not request.inexact_texts:
            return request
        return await self._bounding.run(self.with_exact_bound_now, request)

    def close(self) -> None:
        """Stop the threads."""
        self._decoding.close()
        self._bounding.close()
