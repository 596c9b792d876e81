"""Read and bound requests: small ones at once, large ones in a thread, one after another."""

from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.json_text import JsonText
from tok0n.domain.metered_request import MeteredRequest
from tok0n.services.catalogue import Catalogue
from tok0n.services.work_queue import WorkQueue

LARGE_BODY_BYTES = 64 * 1024
"""Up to here a request is read in well under a millisecond."""

DECODING_THREADS = 1
"""More would not decode faster, because Python's global lock is held, and would keep the event loop from it longer."""

DECODING_WAITING_MAX = 32
"""How many large bodies may wait to be decoded."""

BOUNDING_WAITING_MAX = 16
"""How many admitted requests may wait for their exact bound. It bounds one at a time."""


class RequestReader:
    """Reads the requests of all callers."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        decoding_waiting_max: int = DECODING_WAITING_MAX,
        bounding_waiting_max: int = BOUNDING_WAITING_MAX,
    ) -> None:
        self._catalogue = catalogue
        self._decoding = WorkQueue("large bodies", threads=DECODING_THREADS, waiting_max=decoding_waiting_max)
        self._bounding = WorkQueue("exact bounds", threads=1, waiting_max=bounding_waiting_max)

    def read_now(self, endpoint: Endpoint, body: JsonText) -> MeteredRequest:
        """Read a request at once. Raises `InvalidRequest`."""
        return endpoint.read_request(body, find_model=self._catalogue.find)

    async def read(self, endpoint: Endpoint, body: JsonText) -> MeteredRequest:
        """Read a request, in a thread if it is large. Raises `InvalidRequest`, or `Overloaded` if too many wait."""
        if len(body) <= LARGE_BODY_BYTES:
            return self.read_now(endpoint, body)
        return await self._decoding.run(self.read_now, endpoint, body)

    def exact_now(self, request: MeteredRequest) -> MeteredRequest:
        """The request with its exact bound, computed at once."""
        return request.exact()

    async def exact(self, request: MeteredRequest) -> MeteredRequest:
        """The request with its exact bound, computed in a thread if that is expensive. Raises `Overloaded`."""
        if not request.inexact_texts:
            return request
        return await self._bounding.run(self.exact_now, request)

    def close(self) -> None:
        """End the threads."""
        self._decoding.close()
        self._bounding.close()
