"""A request for a handler. Its body may still be incomplete."""

import asyncio
from collections.abc import Hashable
from typing import Any, Protocol

from tok0n.http.buffered import ByteCount
from tok0n.http.head import RequestHead
from tok0n.http.message import Headers

UNREAD_BODY_BYTES_MAX = 64 * 1024
"""The connection stops reading while this much of a body waits for the handler."""

UNCOUNTED_BODY_BYTES = 4 * 1024
"""Smaller bodies don't count toward the buffered bytes: counting costs more than they do, and the number of
connections limits them."""

Address = tuple[str, int] | None
"""IP address and port; None for a Unix socket."""


class RequestAborted(Exception):
    """The client closed the connection, or the server rejected the request, before its body was complete."""


class Channel(Protocol):
    """What a request needs of its connection."""

    loop: asyncio.AbstractEventLoop
    background: "set[asyncio.Future[Any]]"
    client_address: Address
    server_address: Address

    def new_count(self, request: "Request", owner: Hashable | None) -> ByteCount:
        """Return a count for the bytes of the body. If `owner` is None, the client is its owner."""

    def reject_body(self, request: "Request", code: str) -> None:
        """Reject a request whose body the server can't hold."""

    def send_continue(self) -> None:
        """Send `100 Continue`."""

    def update_reading(self) -> None:
        """Read from the socket if more of the body can be held now."""


class Request:
    """One request.

    - `method`, `target`, `headers` and `headers_by_name` come from its head. `path` is decoded and without the query;
      `query` is raw.
    - `body` is the part of the body that `receive` has not returned: all of it if `is_complete` from the start.
    - `is_overloaded`: the server sheds load, and the handler should reject the request as cheaply as it can.
    - `is_aborted`: the client left, or the server has rejected the request with the status `rejected_as`.
    - `keep_alive`: the connection stays open after the response.
    """

    path: str
    raw_path: bytes
    query: bytes

    body: bytes | bytearray = b""
    body_bytes = 0
    is_complete = False
    is_overloaded = False
    is_started = False
    is_aborted = False
    is_finished = False
    rejected_as: int | None = None

    # Class attributes, because most requests change none of these and a request is created faster without them.
    _waiter: asyncio.Future[None] | None = None
    _byte_count: ByteCount | None = None
    _owner: Hashable | None = None
    _is_counted = True

    def __init__(self, channel: Channel, head: RequestHead) -> None:
        self._channel = channel
        self.head = head
        self.headers_by_name = head.headers_by_name
        self.keep_alive = head.keep_alive
        self.awaits_continue = head.expects_continue

    # For handlers

    @property
    def method(self) -> bytes:
        """The method, as the client wrote it."""
        return self.head.method

    @property
    def headers(self) -> Headers:
        """The headers in order of arrival."""
        return self.head.headers

    @property
    def client_address(self) -> Address:
        """The other end of the connection: the client, or a proxy."""
        return self._channel.client_address

    @property
    def server_address(self) -> Address:
        """Our end of the connection."""
        return self._channel.server_address

    async def receive(self) -> bytes:
        """Wait for more of the body and return it; b"" after the last piece. Raises `RequestAborted`."""
        channel = self._channel
        if self.awaits_continue and not self.is_aborted:
            self.awaits_continue = False
            channel.send_continue()
        while not (self.is_aborted or self.is_finished or self.body or self.is_complete):
            channel.update_reading()
            self._waiter = channel.loop.create_future()
            await self._waiter
        if self.is_aborted or self.is_finished:
            raise RequestAborted
        piece, self.body = bytes(self.body), b""
        channel.update_reading()
        return piece

    def count_for(self, owner: Hashable) -> str | None:
        """Count the body for `owner`, such as an account. Returns an error code if the owner has too many bytes."""
        self._owner = owner
        return None if self._byte_count is None else self._byte_count.move(owner)

    def admit(self) -> None:
        """Run the request: its body no longer counts. Raises `RequestAborted` if it was rejected to free memory."""
        self.stop_counting()
        if self.rejected_as is not None:
            raise RequestAborted

    def stop_counting(self) -> None:
        """Stop counting the body toward the buffered bytes, also if the request is being rejected. Never raises."""
        self._is_counted = False
        if self._byte_count is not None:
            self._byte_count.release()
            self._byte_count = None

    def track(self, task: "asyncio.Future[Any]") -> None:
        """Have the server wait for a task that continues after the handler. Otherwise it could outlive the server.

        If the server stops before its end, it cancels the task, which may then still end its response.
        """
        self._channel.background.add(task)
        task.add_done_callback(self._channel.background.discard)

    # For the connection

    @property
    def is_body_unread(self) -> bool:
        """Whether so much of the body waits for the handler that the connection should stop reading."""
        return len(self.body) > UNREAD_BODY_BYTES_MAX

    def add_body(self, body: bytes) -> None:
        """Take bytes of the body that arrived."""
        if self.is_aborted:
            return
        if not self.body:
            self.body = body
        else:
            if type(self.body) is bytes:
                self.body = bytearray(self.body)
            self.body += body
        self.body_bytes = body_bytes = self.body_bytes + len(body)
        if body_bytes > UNCOUNTED_BODY_BYTES and self._is_counted:
            self._count(len(body))
        if self._waiter is not None:
            self._wake()

    def complete_body(self) -> None:
        """Record that the last byte of the body arrived."""
        self.is_complete = True
        if type(self.body) is not bytes:
            self.body = bytes(self.body)
        if self._waiter is not None:
            self._wake()

    def abort(self) -> None:
        """Record that the client left or the request was rejected. `receive` raises `RequestAborted` from now on."""
        self.is_aborted = True
        self.body = b""
        self.stop_counting()
        if self._waiter is not None:
            self._wake()

    def finish(self) -> None:
        """Drop the body after the response is sent."""
        self.is_finished = True
        self.awaits_continue = False
        self.body = b""
        if self._byte_count is not None:
            self.stop_counting()
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        """Wake `receive`. Callers check first whether it waits, because it rarely does."""
        assert self._waiter is not None
        if not self._waiter.done():
            self._waiter.set_result(None)

    def _count(self, size: int) -> None:
        """Count received bytes, and reject the request if they are too many."""
        if self._byte_count is None:
            size = self.body_bytes
            self._byte_count = self._channel.new_count(self, self._owner)
        code = self._byte_count.add(size)
        if code is not None:
            self._channel.reject_body(self, code)


def address_of(transport: asyncio.BaseTransport, end: str) -> Address:
    """Return the address of one `end` of a transport: "peername" or "sockname"."""
    address = transport.get_extra_info(end)
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
