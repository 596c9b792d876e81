"""A connection to Redis or Valkey that runs one script at a time, with a short timeout.

It tracks the server's run id, which changes after a restart or a failover. On a cluster, it follows redirects to the
node of our keys, which all have the same hash tag.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError

log = structlog.get_logger()

CALL_SECONDS_MAX = 0.4
"""The timeout of a call, including waiting for the previous call and connecting."""

REDIRECTS_MAX = 3
EVICTS_NOTHING = b"noeviction"


Call = Callable[[Connection], Awaitable[Any]]


class Unreachable(Exception):
    """The call failed. If `sent`, the server may have run it, or may run it later."""

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class Script:
    """A Lua script and its SHA-1 digest, for EVALSHA."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class ScriptConnection:
    """Connects on demand, and reconnects after a failure. `run_id` identifies the server process."""

    def __init__(self, url: str, *, call_seconds_max: float = CALL_SECONDS_MAX) -> None:
        self._call_seconds_max = call_seconds_max
        self._options: dict[str, Any] = dict(parse_url(url))
        self._class: type[Connection] = self._options.pop("connection_class", Connection)
        self._node: dict[str, Any] = {}
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._is_down = False
        self.run_id = b""

    async def run(self, script: Script, keys: list[str], arguments: list[Any]) -> Any:
        """Run a script. Its first argument is the server's run id, followed by `arguments`. Raises `Unreachable`."""

        async def call(connection: Connection) -> Any:
            values = (len(keys), *keys, self.run_id, *arguments)
            try:
                return await _ask(connection, "EVALSHA", script.digest, *values)
            except NoScriptError:
                return await _ask(connection, "EVAL", script.text, *values)

        return await self._call(call)

    async def command(self, *words: Any) -> Any:
        """Run one command. Raises `Unreachable`."""
        return await self._call(lambda connection: _ask(connection, *words))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._drop()

    async def _call(self, call: Call) -> Any:
        try:
            async with asyncio.timeout(self._call_seconds_max), self._lock:
                result = await self._run_with_redirects(call)
        except TimeoutError as error:
            failure = Unreachable(f"no answer within {self._call_seconds_max:g} seconds", sent=True)
            self._note_down(failure)
            raise failure from error
        except Unreachable as error:
            self._note_down(error)
            raise
        self._note_up()
        return result

    async def _run_with_redirects(self, call: Call) -> Any:
        """Run `call`, on another node if Redis Cluster redirects it. Raises `Unreachable`.

        Any error except an error reply closes the connection, so that no call reads another's response.
        """
        for _ in range(REDIRECTS_MAX):
            try:
                connection = await self._connected()
            except (RedisError, OSError, ValueError, LookupError) as error:
                raise Unreachable(_describe(error), sent=False) from error
            try:
                return await call(connection)
            except ResponseError as error:
                if not await self._follow(error):
                    raise Unreachable(_describe(error), sent=True) from error
            except (RedisError, OSError, ValueError) as error:
                await self._drop()
                raise Unreachable(_describe(error), sent=True) from error
            except BaseException:
                await self._drop()
                raise
        raise Unreachable("redirected too often", sent=False)

    async def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        options = self._options | self._node
        connection = self._class(
            **options,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=self._call_seconds_max,
            driver_info=None,
        )
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            server = _fields(await _ask(connection, "INFO", "server"))
            memory = _fields(await _ask(connection, "INFO", "memory"))
        except BaseException:
            self._node = {}
            await connection.disconnect(nowait=True)
            raise
        if memory.get(b"maxmemory", b"0") != b"0" and memory.get(b"maxmemory_policy") != EVICTS_NOTHING:
            await connection.disconnect(nowait=True)
            raise Unreachable("maxmemory-policy must be noeviction, because evicted keys don't count", sent=False)
        self.run_id = server[b"run_id"]
        self._connection = connection
        return connection

    async def _follow(self, error: ResponseError) -> bool:
        """Follow a cluster's redirect to another node. Returns whether `error` is a redirect."""
        if not isinstance(error, MovedError):
            return False
        await self._drop()
        self._node = {"host": error.host or self._options.get("host", "localhost"), "port": error.port}
        return True

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def _note_up(self) -> None:
        if self._is_down:
            log.warning("limiter_reachable_again")
        self._is_down = False

    def _note_down(self, failure: Unreachable) -> None:
        if not self._is_down:
            log.error("limiter_unreachable", detail=str(failure))
        self._is_down = True


async def _ask(connection: Connection, *words: Any) -> Any:
    await connection.send_command(*words, check_health=False)
    return await connection.read_response()


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _fields(info: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in info.split(b"\r\n"))
    return {name: value for name, colon, value in lines if colon}
