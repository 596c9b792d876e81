"""The facts about one request to an endpoint."""

from collections.abc import Callable

import msgspec
import structlog

from tok0n.domain.accounts import Caller
from tok0n.domain.errors import Tok0nError, UnexpectedError
from tok0n.domain.ledger import Receipt
from tok0n.ports.limiter import RateState

log = structlog.get_logger()


class Call(msgspec.Struct, kw_only=True):
    """The facts about one request, for its response headers and its log line.

    `started_seconds` is on the monotonic clock. Only keys with networks need the client IP, so `find_client_ip` isn't
    called for other requests.

    `Pipeline` sets `caller` and the fields below it as it learns them. Only it and `Relay` change them. Only streams
    have the last fields.
    """

    request_id: str
    started_seconds: float
    endpoint: str
    client_request_id: str | None = None
    find_client_ip: Callable[[], str] | None = None

    caller: Caller | None = None
    rate: RateState | None = None
    model: str | None = None
    dropped: tuple[str, ...] = ()
    upstream: str | None = None
    reserved: int | None = None
    receipt: Receipt | None = None
    upstream_ms: int | None = None

    is_stream: bool = False
    first_event_ms: int | None = None
    client_left: bool = False

    @property
    def client_ip(self) -> str:
        """The client IP, or an empty string if it is unknown."""
        return "" if self.find_client_ip is None else self.find_client_ip()


def known_error(call: Call, raised: Exception) -> Tok0nError:
    """Return the error to send. One that `domain.errors` does not name is logged with its traceback."""
    if isinstance(raised, Tok0nError):
        return raised
    log.error("unexpected_error", request=call.request_id, exc_info=raised)
    detail = f"unexpected {type(raised).__name__}"
    return UnexpectedError(upstream_called=call.upstream_ms is not None, detail=detail)
