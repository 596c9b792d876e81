"""Run a gateway until a signal ends it."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Iterator

from tok0n.bootstrap.wiring import Gateway, open_gateway
from tok0n.settings import Settings
from tok0n.web.server import HttpServer, listen

Announce = Callable[[str], None]

GARBAGE_THRESHOLD = 50_000
"""How many more objects than now may live before the collector looks: measured 6 % of the CPU at 700."""


async def serve(settings: Settings, *, announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT, then let calls in flight finish. A second SIGINT does not wait for them.

    `announce` is told the address once it answers.
    """
    stop = asyncio.Event()
    with signals(stop) as again:
        async with open_gateway(settings) as gateway:
            await serve_gateway(gateway, settings, announce=announce, stop=stop, again=again)


async def serve_gateway(
    gateway: Gateway, settings: Settings, *, announce: Announce, stop: asyncio.Event, again: asyncio.Event
) -> None:
    """Serve an open gateway until `stop`; do not wait for calls in flight after `again`."""
    listener = listen(settings.server.host, settings.server.port)
    _spare_the_garbage_collector()
    async with HttpServer(gateway.app, listener, shutdown_seconds=settings.server.shutdown_seconds) as server:
        announce(server.url)
        await stop.wait()
        gateway.draining.set()
        hurrying = asyncio.create_task(_hurry(server, again))
    hurrying.cancel()


def _spare_the_garbage_collector() -> None:
    """What lives from the start is not looked at again, and requests, which leave no cycles, start it rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


async def _hurry(server: HttpServer, again: asyncio.Event) -> None:
    await again.wait()
    server.hurry()


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
