"""How long a request of a mebibyte holds the event loop up: what everybody else would wait.

A probe on the load's core asks `GET /healthz` again and again on a connection of its own, each time as soon as the last
answer came, for as long as the large request takes. Its slowest answer is the longest stall, give or take a tenth of a
millisecond. The kernel can hold it up too: the same probe without the large request tells how much. Under the load of
64 connections the probe waits for its turn among them, as any request does: that figure has no floor.
"""

import functools
import http.client
import threading
import time
from collections.abc import Callable

import servers
from bench import Bench, Result, summary
from load import wrk
from payloads import big_bodies
from servers import Server

FLOOR_MS = 10.0
REPEATS = 5
ALONE_SECONDS = 1.0
PATH = "/healthz"


def measure(bench: Bench) -> Result:
    """Alone, beside each large request, under load."""
    result = Result()
    with servers.upstream(bench.folder), servers.embedded(bench.folder / "sqlite") as tok0n:
        alone = _probe(tok0n, lambda: time.sleep(ALONE_SECONDS))
        result.figures["alone_ms"] = summary(alone)
        result.add("event loop, nothing else", f"longest {max(alone):.1f} ms")
        for name, body in big_bodies().items():
            stalls = [max(_probe(tok0n, functools.partial(_send, tok0n, body, result))) for _ in range(REPEATS)]
            result.figures[name] = {"longest_ms": stalls}
            worst = max(stalls)
            value = f"longest {worst:.1f} ms  (of {REPEATS}: {', '.join(f'{stall:.1f}' for stall in sorted(stalls))})"
            result.add(f"event loop, 1 MiB of {name}", value, f"≤ {FLOOR_MS:g} ms", reached=worst <= FLOOR_MS)
        load = _probe(tok0n, lambda: wrk(bench.folder, tok0n, seconds=bench.seconds, connections=64))
        told = result.figures["under_load_ms"] = summary(load)
        value = f"p50 {told['p50']:.1f} ms, p99 {told['p99']:.1f} ms, longest {told['max']:.1f} ms"
        result.add("event loop, 64 connections", value)
    return result


def _probe(server: Server, work: Callable[[], object]) -> list[float]:
    """How long each answer took while `work` was done, in milliseconds."""
    took: list[float] = []
    doing = threading.Thread(target=work)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    _ask(connection)
    doing.start()
    while doing.is_alive():
        began = time.perf_counter()
        _ask(connection)
        took.append((time.perf_counter() - began) * 1000)
    connection.close()
    return took


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", PATH)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


def _send(server: Server, body: bytes, result: Result) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", server.path, body, {"Content-Type": "application/json", **server.headers})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        result.failures.append(f"a large request was answered {answer.status}")
    connection.close()
