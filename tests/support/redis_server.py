"""A real redis-server for the tests, on a free port, for as long as a block lasts."""

import asyncio
import atexit
import contextlib
import functools
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from support.free_ports import free_port


def binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise RuntimeError("Redis is missing. As root, `make test` installs it; else install redis-server.")
    return found


class RedisServer:
    """One server. Each method waits until it is so."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="tok0n-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.remove)

    async def start(self) -> None:
        self._spawn()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await self.command("PING")
                    return

    def _spawn(self) -> None:
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([binary(), *fixed, *self._options], stdout=subprocess.DEVNULL)

    async def stop(self) -> None:
        """kill -9: as a crash would end it."""
        await asyncio.to_thread(self.kill)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def command(self, *words: Any) -> Any:
        """Run one command on a connection of its own."""
        client = Redis(port=self.port, socket_timeout=5, protocol=2)
        try:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()


@functools.cache
def shared_redis() -> RedisServer:
    """The server that most tests use; tests that stop or flush it have their own. Not to be called in a loop."""
    server = RedisServer()
    asyncio.run(server.start())
    atexit.register(server.remove)
    return server
