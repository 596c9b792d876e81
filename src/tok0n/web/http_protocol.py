"""uvicorn's HTTP/1.1 protocol with what it lacks: limits on a request's head, and answers in one write.

uvicorn gives the server, its shutdown and the parser's wiring. What happens for each request is here and in
`exchange.py`, because there it costs more than the accounting of a call: two writes an answer, a task, two regular
expressions a header, an event and a timer. What goes the short way is answered by one task of its connection, one
request after the other; what goes by ASGI has a task of its own, because it may work on after its answer.
"""

import asyncio
import urllib.parse
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tok0n.turns import Turns
from tok0n.web.asgi import Scope, ShortWay
from tok0n.web.exchange import Exchange, Refused
from tok0n.web.openai.errors import TABLE, error_body

HEAD_BYTES_MAX = 64 * 1024
HEAD_SECONDS_MAX = 30.0
"""From the connection, or from its first byte on a connection that is used again."""

STALL_SECONDS_MAX = 60.0
"""How long a client may send nothing more of the body that it began. `server.bind` has who reads nothing given up."""

_INVALID = "Invalid HTTP request received."

KEEP_ALIVE_SECONDS = 75.0
"""Longer than the 60 seconds after which common load balancers drop an idle connection themselves."""

_ASGI = {"version": "3.0", "spec_version": "2.3"}


class HttpProtocol(HttpToolsProtocol):
    """One connection. Costs a request whose head arrives in one piece, as nearly all do, next to nothing."""

    cycle: Exchange | None  # type: ignore[assignment]
    pipeline: Any
    url: bytes

    def __init__(self, *args: Any, turns: "Turns[HttpProtocol]", refusals: Turns[Refused], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turns = turns
        self._refusals = refusals
        self._head_is_open = True
        self._has_ended_one = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._has_moved = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._short_way: ShortWay | None = getattr(self.app, "short_way", None)
        self._short_path = b"" if self._short_way is None else self._short_way.path
        self._task: asyncio.Task[None] | None = None
        self._active: Exchange | None = None
        self._next: Exchange | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.set()
        super().connection_lost(exc)
        self._head_has_come()
        for timer in (self._idle_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._has_ended_one = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._ends_with_the_answer_under_way():
                self.send_400_response(_INVALID)
            return
        except httptools.HttpParserUpgrade:
            pass  # what comes is an upgrade that nobody here offers: it is answered as the request that it also is
        current = self.cycle
        if current is not None and not current.came_whole:
            if not current.started:
                self.start(current)
            self._watch()
        if not self._head_is_open or self.transport.is_closing():
            return
        # Of a read in which other requests ended, most may belong to those.
        self._head_bytes += 1 if self._has_ended_one else len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse("headers_too_large", f"The head of a request may have {HEAD_BYTES_MAX} bytes at the most.")
        elif self._head_timer is None:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_is_open = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self.url = self.url + url if self.url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_is_open = False
        if self._head_timer is not None:
            self._head_has_come()
        parser = self.parser
        version = parser.get_http_version()
        exchange = Exchange(
            self,
            url=self.url,
            headers=self.headers,
            method=parser.get_method(),
            version=version,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
        )
        running, self.cycle = self.cycle, exchange
        if running is not None and not running.response_complete:
            exchange.started = True
            self.flow.pause_reading()
            self.pipeline.appendleft(exchange)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        assert self.cycle is not None
        self.cycle.add(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._has_ended_one = True
        current = self.cycle
        assert current is not None
        current.body_is_whole()
        if not current.started:
            self.start(current)

    def on_response_complete(self) -> None:
        """Called by an exchange whose answer is sent: begin the next, or wait for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self.start(self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(KEEP_ALIVE_SECONDS, self._idle_for_long)

    def start(self, exchange: Exchange) -> None:
        """Have the application answer: its body is whole, or the rest of it is yet to come."""
        exchange.started = True
        self._active = exchange
        short_way = self._short_way_of(exchange)
        if short_way is None:
            target = _path_and_query(exchange.url)
            if target is None:
                exchange.keep_alive = False
                exchange.answer((400, b"content-type: text/plain; charset=utf-8\r\n", _INVALID.encode()))
                return
            task = self.loop.create_task(exchange.run(self.app, self._scope_of(exchange, *target)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif not self._is_refused(exchange, short_way):
            self._turns.add(self)

    def go_on(self) -> None:
        """It is our turn: have the task of this connection answer the request that waits."""
        self._next = self._active
        if self._task is None:
            assert self._short_way is not None
            self._task = self.loop.create_task(self._serve(self._short_way))
            self.tasks.add(self._task)
        else:
            self._wake()

    def _is_refused(self, exchange: Exchange, short_way: ShortWay) -> bool:
        """Under overload most requests are refused, so that it must cost little: no task is woken for it.

        Whoever is refused may ask again at once: refusals go by turns too, or nothing else would be done. Not with
        others behind it: refusing them all in turn would go as deep as there are many.
        """
        if self.pipeline or self.flow.write_paused:
            return False
        refusal = short_way.refusal(crowded=not self._turns.has_room())
        if refusal is None:
            return False
        self._refusals.add((exchange, refusal))
        return True

    async def _serve(self, short_way: ShortWay) -> None:
        """Answer one request after the other, for as long as the connection lives."""
        assert self._task is not None
        try:
            while True:
                exchange, self._next = self._next, None
                if self.transport.is_closing():
                    return  # who has left before its turn is not answered, and pays nothing
                if exchange is not None:
                    await exchange.run_short(short_way)
                else:
                    self._waiter = self.loop.create_future()
                    await self._waiter
        finally:
            self.tasks.discard(self._task)
            self.transport.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _scope_of(self, exchange: Exchange, raw_path: bytes, query: bytes) -> Scope:
        """The request as ASGI has it."""
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": exchange.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": exchange.headers,
            "state": {},
            "method": exchange.method.decode("ascii"),
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
        }

    def _short_way_of(self, exchange: Exchange) -> ShortWay | None:
        """The application's short way, for a request that can go it."""
        if exchange.url == self._short_path and exchange.method == b"POST" and exchange.body_came_at_once:
            return self._short_way
        return None

    def _idle_for_long(self) -> None:
        """One timer for a connection's life: it looks when the last answer was sent, instead of starting with each."""
        self._idle_timer = None
        if (self.cycle is not None and not self.cycle.response_complete) or self._head_timer is not None:
            return
        rest = self._idle_since + KEEP_ALIVE_SECONDS - self.loop.time()
        if rest > 0:
            self._idle_timer = self.loop.call_later(rest, self._idle_for_long)
        else:
            self.transport.close()

    def _watch(self) -> None:
        """A piece of a body has come: look later whether another has."""
        self._has_moved = self._stall_timer is not None
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(STALL_SECONDS_MAX, self._look_for_more)

    def _look_for_more(self) -> None:
        self._stall_timer = None
        current = self.cycle
        if current is None or current.came_whole:
            return
        if self._has_moved or self.flow.read_paused or current.awaits_continue:
            self._watch()
        elif current.has_begun:
            self.transport.abort()
        else:
            self._refuse(
                "request_timeout", f"Nothing more of the request's body came for {STALL_SECONDS_MAX:g} seconds."
            )

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._too_slow)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if self._head_bytes:
            self._refuse("request_timeout", f"The head of a request must arrive within {HEAD_SECONDS_MAX:g} seconds.")
        else:
            self.transport.close()

    def _ends_with_the_answer_under_way(self) -> bool:
        """Whether a request that came whole is still answered: nothing may be sent in place of its answer."""
        active = self._active
        if active is None or active.response_complete or not active.came_whole:
            return False
        active.keep_alive = False
        self.pipeline.clear()
        self.flow.pause_reading()
        return True

    def _refuse(self, code: str, message: str) -> None:
        """Answer in OpenAI's shape, although nobody knows yet which path was meant."""
        if self._ends_with_the_answer_under_way():
            return
        body = error_body(message=message, code=code)
        head = f"HTTP/1.1 {TABLE[code][0]} \r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()


def _path_and_query(url: bytes) -> tuple[bytes, bytes] | None:
    """A request's target as ASGI tells it; None where it has no path, as CONNECT's, or is not ASCII."""
    if not url.isascii():
        return None
    if url.startswith(b"/") and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return None
    return None if parsed.path is None else (parsed.path, parsed.query or b"")
