"""Run several serving processes on one port, and replace any that dies.

Each is a separate `tok0n serve`. They share only the port, with SO_REUSEPORT. All state is in the database and Redis.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from tok0n.bootstrap.listener import bind_listener
from tok0n.bootstrap.retired_classes import log_retired_classes
from tok0n.bootstrap.serving import Announce, log_warnings, stop_on_signals
from tok0n.domain.errors import OperatorError
from tok0n.settings import Settings

log = structlog.get_logger()

RESTART_SECONDS = 1.0
"""The delay before a dead worker is replaced, so that a worker that can't start doesn't keep the machine busy."""

Worker = asyncio.subprocess.Process


async def supervise(settings: Settings, config_path: Path | None, *, workers: int, announce: Announce) -> None:
    """Run `workers` processes until SIGTERM or SIGINT. Calls `announce` once all of them accept requests.

    Raises `OperatorError` if one of them can't start.
    """
    log_warnings(settings)
    await log_retired_classes(settings)
    stop = asyncio.Event()
    # Bound but not listening: it chooses the port and keeps it for the workers.
    port_holder = bind_listener(settings.server.host, settings.server.port, shared=True)
    port = port_holder.getsockname()[1]
    arguments = ["--host", settings.server.host, "--port", str(port), "--worker", "--json"]
    if config_path is not None:
        arguments += ["--config", str(config_path)]
    with port_holder, stop_on_signals(stop) as interrupted_again:
        async with _Workers(arguments, workers) as running:
            announce(running.url, running.set_up_url)
            await stop.wait()
            running.stop(signal.SIGTERM)
            forcing = asyncio.create_task(_force_exit(running, interrupted_again))
            await running.wait_until_ended()
            forcing.cancel()


async def _force_exit(running: "_Workers", interrupted_again: asyncio.Event) -> None:
    await interrupted_again.wait()
    for _ in range(2):  # a worker that has not handled SIGTERM yet takes the first one as the request to stop
        running.stop(signal.SIGINT)


class _Workers:
    """The worker processes, each with a task that restarts it."""

    def __init__(self, arguments: list[str], count: int) -> None:
        self._arguments = arguments
        self._count = count
        self._processes: dict[int, Worker] = {}
        self._supervisors: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.url = ""
        self.set_up_url: str | None = None

    async def __aenter__(self) -> Self:
        """Start all processes, and wait until all accept requests."""
        try:
            announcements = await asyncio.gather(*(self._start(index) for index in range(self._count)))
        except BaseException:
            await self._end()
            raise
        self.url = announcements[0]["base_url"].removesuffix("/v1")
        self.set_up_url = announcements[0].get("set_up_url")
        self._supervisors = [asyncio.create_task(self._supervise(index)) for index in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the processes that still run."""
        await self._end()

    def stop(self, sig: int) -> None:
        """Send a signal to every process, and stop replacing dead ones."""
        self._stopping.set()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(sig)

    async def wait_until_ended(self) -> None:
        """Wait until all processes have ended."""
        await asyncio.gather(*self._supervisors)

    async def _start(self, index: int) -> dict[str, Any]:
        """Start a process, and return its announcement. It has its own session, so that Ctrl+C doesn't signal it."""
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
        self._processes[index] = process
        assert process.stdout is not None
        line = await process.stdout.readline()
        try:
            ready = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            ready = {}
        if "base_url" not in ready:
            raise OperatorError(f"Worker {index + 1} did not start. Its message above says why.")
        return ready

    async def _supervise(self, index: int) -> None:
        while True:
            status = await self._processes[index].wait()
            if self._stopping.is_set():
                return
            log.error("worker_died", worker=index + 1, status=status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RESTART_SECONDS)
                return
            with contextlib.suppress(OperatorError):
                await self._start(index)

    async def _end(self) -> None:
        self.stop(signal.SIGTERM)
        for keeper in self._supervisors:
            keeper.cancel()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))
