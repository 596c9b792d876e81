"""Several serving processes on one port: start them, replace one that dies, end all together.

Each is a `tok0n serve` of its own. They share the port by SO_REUSEPORT, and nothing else: the truth is in the database.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from tok0n.bootstrap.listener import bind
from tok0n.bootstrap.serving import Announce, log_warnings, signals
from tok0n.domain.errors import OperatorError
from tok0n.settings import Settings

log = structlog.get_logger()

RESTART_SECONDS = 1.0
"""How long after a worker died its place stays empty: one that cannot start must not keep the machine busy."""

Worker = asyncio.subprocess.Process


async def supervise(settings: Settings, config_path: Path | None, *, workers: int, announce: Announce) -> None:
    """Run `workers` processes until SIGTERM or SIGINT. `announce` is told the address once all of them answer.

    Raises `OperatorError` when one of the first cannot start.
    """
    log_warnings(settings)
    stop = asyncio.Event()
    placeholder = bind(settings.server.host, settings.server.port, shared=True)
    port = placeholder.getsockname()[1]
    arguments = ["--host", settings.server.host, "--port", str(port), "--worker", "--json"]
    if config_path is not None:
        arguments += ["--config", str(config_path)]
    with placeholder, signals(stop) as again:
        async with _Workers(arguments, workers) as running:
            announce(running.url, running.set_up_url)
            await stop.wait()
            running.tell(signal.SIGTERM)
            hurrying = asyncio.create_task(_hurry(running, again))
            await running.ended()
            hurrying.cancel()


async def _hurry(running: "_Workers", again: asyncio.Event) -> None:
    await again.wait()
    for _ in range(2):
        running.tell(signal.SIGINT)


class _Workers:
    """The processes, each with a task that keeps its place filled."""

    def __init__(self, arguments: list[str], count: int) -> None:
        self._arguments = arguments
        self._count = count
        self._processes: dict[int, Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.url = ""
        self.set_up_url: str | None = None

    async def __aenter__(self) -> Self:
        """Start all, and wait until all answer."""
        try:
            said = await asyncio.gather(*(self._start(place) for place in range(self._count)))
        except BaseException:
            await self._end()
            raise
        self.url = said[0]["base_url"].removesuffix("/v1")
        self.set_up_url = said[0].get("set_up_url")
        self._keepers = [asyncio.create_task(self._keep(place)) for place in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """End whatever still runs."""
        await self._end()

    def tell(self, sig: int) -> None:
        """Send a signal to every process; none is replaced from here on."""
        self._stopping.set()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(sig)

    async def ended(self) -> None:
        """Wait until all processes have ended."""
        await asyncio.gather(*self._keepers)

    async def _start(self, place: int) -> dict[str, Any]:
        """Start one process, in a session of its own: Ctrl+C reaches it through us alone. Gives what it announces."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tok0n",
            "serve",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._processes[place] = process
        assert process.stdout is not None
        line = await process.stdout.readline()
        try:
            ready = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            ready = {}
        if "base_url" not in ready:
            raise OperatorError(f"Worker {place + 1} did not start: see its message above.")
        return ready

    async def _keep(self, place: int) -> None:
        while True:
            status = await self._processes[place].wait()
            if self._stopping.is_set():
                return
            log.error("worker_died", worker=place + 1, status=status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RESTART_SECONDS)
                return
            with contextlib.suppress(OperatorError):
                await self._start(place)

    async def _end(self) -> None:
        self.tell(signal.SIGTERM)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))
