"""Run a gateway until a signal ends it."""

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator

import structlog

from tok0n.bootstrap.listener import bind
from tok0n.bootstrap.open_files import allow_many_files
from tok0n.bootstrap.wiring import Gateway, open_gateway
from tok0n.http.server import BACKLOG, HttpServer
from tok0n.settings import Settings, with_port

log = structlog.get_logger()

Announce = Callable[[str, str | None], None]
"""Told the address, and the link that sets up the operator's account as long as there is none."""

GARBAGE_THRESHOLD = 50_000
"""How many more objects than now may live before the collector looks: measured 6 % of the CPU at 700."""

SWITCH_SECONDS = 0.0005
"""How long a thread that reads a large request may keep the loop from the interpreter: 5 ms are Python's default."""

OPEN_FILES_FEW = 4_096
"""A call has two connections open: with fewer files than this, two thousand calls at once do not fit."""


async def serve(settings: Settings, *, announce: Announce, worker: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, then let calls in flight finish. A second SIGINT does not wait for them.

    `announce` is told the address once it answers. A `worker` shares its port with others, and ends when its standard
    input does: with the process that started it.
    """
    stop = asyncio.Event()
    listener, settings = bind_for(settings, shared=worker)
    with listener, signals(stop) as again, _end_of_input(stop) if worker else contextlib.nullcontext():
        async with open_gateway(settings) as gateway:
            if not worker:
                log_warnings(settings)
            await serve_gateway(gateway, settings, listener, announce=announce, stop=stop, again=again)


def bind_for(settings: Settings, *, shared: bool = False) -> tuple[socket.socket, Settings]:
    """A socket that keeps the port, and the settings that name it where they left it open."""
    listener = bind(settings.server.host, settings.server.port, shared=shared)
    return listener, with_port(settings, listener.getsockname()[1])


def log_warnings(settings: Settings) -> None:
    """Log what the operator should change in the settings. A worker does not: `supervise` did so before."""
    for warning in settings.warnings:
        log.warning("settings_warning", setting=warning.where, message=warning.message)


async def serve_gateway(
    gateway: Gateway,
    settings: Settings,
    listener: socket.socket,
    *,
    announce: Announce,
    stop: asyncio.Event,
    again: asyncio.Event,
) -> None:
    """Serve an open gateway until `stop`; do not wait for calls in flight after `again`."""
    link = await gateway.services.sign_in.set_up_link()
    listener.listen(BACKLOG)
    if (allowed := allow_many_files()) < OPEN_FILES_FEW:
        hint = "a call takes two: raise the limit (ulimit -n, LimitNOFILE)"
        log.warning("few_open_files", allowed=allowed, hint=hint)
    _spare_the_garbage_collector()
    sys.setswitchinterval(SWITCH_SECONDS)
    async with HttpServer(gateway.app, listener, shutdown_seconds=settings.server.shutdown_seconds) as server:
        announce(server.url, link)
        importing = asyncio.create_task(asyncio.to_thread(_import_all, gateway.pages.packages))
        await stop.wait()
        gateway.draining.set()
        hurrying = asyncio.create_task(_hurry(server, again))
    hurrying.cancel()
    await importing


def _import_all(packages: Iterable[str]) -> None:
    """In a thread, so that the first visitor who needs one does not hold everybody up."""
    for package in packages:
        importlib.import_module(package)


def _spare_the_garbage_collector() -> None:
    """What lives from the start is not looked at again, and requests, which leave no cycles, start it rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


async def _hurry(server: HttpServer, again: asyncio.Event) -> None:
    await again.wait()
    server.force_exit()


@contextlib.contextmanager
def _end_of_input(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def look() -> None:
        if not os.read(descriptor, 4096):
            stop.set()
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, look)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


@contextlib.contextmanager
def signals(stop: asyncio.Event) -> Iterator[asyncio.Event]:
    """Set `stop` at the first SIGTERM or SIGINT, and the event that this gives at any further SIGINT."""
    loop = asyncio.get_running_loop()
    again = asyncio.Event()

    def interrupt() -> None:
        (again if stop.is_set() else stop).set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield again
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
