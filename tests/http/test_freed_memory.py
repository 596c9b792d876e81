"""A request that was rejected keeps none of its bytes in memory, without waiting for a garbage collection."""

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from support.echo import Echo
from tok0n.adapters.clock import SystemClock
from tok0n.api.cors import Cors
from tok0n.api.endpoint import EndpointHandler
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import InsufficientTokens
from tok0n.http.connection import Connection
from tok0n.http.head import RequestHead
from tok0n.http.request import Request
from tok0n.http.server import ServerState
from tok0n.services.call import Call

pytestmark = pytest.mark.anyio


class Body(bytearray):
    """A body that can be weakly referenced."""


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """Turn off the garbage collector, so that an object in a reference cycle stays in memory."""
    gc.disable()
    yield
    gc.enable()


async def test_the_body_of_a_rejected_request_is_freed() -> None:
    async def authenticate(*_: object) -> SimpleNamespace:
        return SimpleNamespace(account_id="acct_1")

    async def serve(*_: object, **__: object) -> None:
        raise InsufficientTokens(required=2, posted=1, pending=0, largest_output_tokens=0)

    async def find_rate(*_: object) -> None:
        return None

    pipeline = SimpleNamespace(
        has_room=lambda: True,
        new_call=lambda endpoint, **fields: Call(request_id="req_1", started_seconds=0.0, endpoint=endpoint, **fields),
        cached_caller=lambda *_: None,
        authenticate=authenticate,
        serve=serve,
        find_rate=find_rate,
    )
    request_log = SimpleNamespace(write=lambda *_, **__: None)
    endpoint = EndpointHandler(
        CHAT,
        cast(Any, pipeline),
        SystemClock(),
        cast(Any, request_log),
        body_bytes_max=10,
        cors=Cors(),
        client_ip=lambda *_: "",
    )
    channel = SimpleNamespace(client_address=None)
    request = Request(cast(Any, channel), RequestHead((b"POST", CHAT.path.encode(), False), [(b"host", b"x")]))
    request.body, request.is_complete = Body(b"{}"), True
    body = weakref.ref(request.body)
    response = await endpoint.handle(request)
    request.finish()
    assert (response.status, body()) == (402, None)


async def test_the_unread_bytes_of_a_rejected_request_are_freed() -> None:
    connection = Connection(ServerState(Echo()))
    transport = Mock(is_closing=Mock(return_value=False))
    connection.connection_made(transport)
    connection.data_received(b"not a request\r\n\r\n" + bytes(100_000))
    assert transport.write.call_args.args[0].startswith(b"HTTP/1.1 400")
    assert connection._parser.buffer == b""
    connection.connection_lost(None)
