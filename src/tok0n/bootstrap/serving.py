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
from concurrent.futures import ThreadPoolExecutor

import structlog

from tok0n.adapters.threads import BACKGROUND_NICENESS, lower_priority
from tok0n.bootstrap.listener import bind_listener
from tok0n.bootstrap.open_files import allow_many_files
from tok0n.bootstrap.retired_classes import log_retired_classes
from tok0n.bootstrap.wiring import Gateway, open_gateway
from tok0n.http.server import BACKLOG, HttpServer
from tok0n.settings import Settings, with_port

log = structlog.get_logger()

Announce = Callable[[str, str | None], None]
"""Called with the server's URL, and with the link that sets up the operator's account, or None if that exists."""

SWITCH_SECONDS = 0.0005
"""The time after which a thread must release the GIL to the event loop. Python's default is 5 ms."""

SERVING_GARBAGE_THRESHOLD = 10_000
"""How many new objects trigger a garbage collection while serving. Collecting so many stops all threads for 1 to 2 ms.

Pages create garbage, so a collection of more objects would delay the requests beside them. A lower threshold would cost
CPU with many concurrent requests (docs/performance.md).
"""

OPEN_FILES_FEW = 4_096
"""With a lower limit of open files, 2,000 concurrent requests don't fit, because each needs two connections."""


async def serve(settings: Settings, *, announce: Announce, worker: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, then let requests in progress finish. A second SIGINT cancels them.

    Calls `announce` once the server accepts requests. A `worker` shares its port with other workers, and also ends when
    its standard input closes, which happens when the process that started it ends.
    """
    stop = asyncio.Event()
    listener, settings = open_listener(settings, shared=worker)
    with (
        listener,
        stop_on_signals(stop) as force_stop,
        _stop_at_end_of_input(stop) if worker else contextlib.nullcontext(),
    ):
        async with open_gateway(settings) as gateway:
            if not worker:
                log_warnings(settings)
                await log_retired_classes(settings, gateway.services.store)
            await serve_gateway(gateway, settings, listener, announce=announce, stop=stop, force_stop=force_stop)


def open_listener(settings: Settings, *, shared: bool = False) -> tuple[socket.socket, Settings]:
    """Bind a socket to the port of the settings. Returns the socket, and the settings with the actual port."""
    listener = bind_listener(settings.server.host, settings.server.port, shared=shared)
    return listener, with_port(settings, listener.getsockname()[1])


def log_warnings(settings: Settings) -> None:
    """Log the warnings about the settings. Workers don't, because `supervise` does."""
    for warning in settings.warnings:
        log.warning("settings_warning", setting=warning.where, message=warning.message)


async def serve_gateway(
    gateway: Gateway,
    settings: Settings,
    listener: socket.socket,
    *,
    announce: Announce,
    stop: asyncio.Event,
    force_stop: asyncio.Event,
) -> None:
    """Serve an open gateway until `stop`, then wait for requests in progress until `force_stop`."""
    link = await gateway.services.sign_in.create_set_up_url()
    listener.listen(BACKLOG)
    if (allowed := allow_many_files()) < OPEN_FILES_FEW:
        hint = "each request needs two open files: raise the limit (ulimit -n, LimitNOFILE)"
        log.warning("few_open_files", allowed=allowed, hint=hint)
    shorten_garbage_collections()
    lower_priority_of_threads()
    sys.setswitchinterval(SWITCH_SECONDS)
    async with HttpServer(gateway.app, listener, shutdown_seconds=settings.server.shutdown_seconds) as server:
        announce(server.url, link)
        importing = asyncio.create_task(asyncio.to_thread(_import_all, gateway.pages.packages))
        await stop.wait()
        gateway.draining.set()
        forcing = asyncio.create_task(_force_exit(server, force_stop))
    forcing.cancel()
    await importing


def _import_all(packages: Iterable[str]) -> None:
    """Import packages in a thread, so that no request has to wait for the import."""
    for package in packages:
        importlib.import_module(package)


def shorten_garbage_collections() -> None:
    """Make garbage collections ignore all objects that exist now, and run after fewer new ones."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(SERVING_GARBAGE_THRESHOLD)


def lower_priority_of_threads() -> None:
    """Give the threads of `asyncio.to_thread` a lower priority. No API request waits for what they do."""
    threads = ThreadPoolExecutor(
        thread_name_prefix="background", initializer=lower_priority, initargs=(BACKGROUND_NICENESS,)
    )
    asyncio.get_running_loop().set_default_executor(threads)


async def _force_exit(server: HttpServer, force_stop: asyncio.Event) -> None:
    await force_stop.wait()
    server.force_exit()


@contextlib.contextmanager
def _stop_at_end_of_input(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def read_input() -> None:
        if not os.read(descriptor, 4096):
            stop.set()
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, read_input)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[asyncio.Event]:
    """Set `stop` at the first SIGTERM or SIGINT. Yields an event that any later SIGINT sets."""
    loop = asyncio.get_running_loop()
    force_stop = asyncio.Event()

    def interrupt() -> None:
        (force_stop if stop.is_set() else stop).set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield force_stop
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
