"""How much longer requests take while a visitor reloads a page, and while the ledger is audited.

One account has a million requests of 90 days (`pages.py` writes them). A client that doesn't wait sends the requests of
another account at a rate that leaves most of the core idle, so that latencies are those of requests, not of a queue.
Meanwhile, in turns, nothing else happens, a visitor opens the overview of the large account again and again, or
`tok0n ledger audit` runs again and again on the other core. The audit reads the WAL of SQLite, which can't be reset
meanwhile, so its largest size is measured too. The figures are medians of rounds.

It doesn't show several visitors at once, nor a disk that is slow.
"""

import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import large
import pages
import servers
from bench import Bench, Result
from processes import LOAD_CORE
from servers import Server

from scenarios.overload import orders
from tok0n.bootstrap.serving import open_listener
from tok0n.bootstrap.wiring import open_gateway
from tok0n.settings import load

REQUESTS = 1_000_000
REQUESTS_QUICK = 50_000
PER_SECOND = 300
CONNECTIONS = 32
WARM_UP_SECONDS = 1
TIMES_MAX = 2.0
"""The p99 beside a neighbour may be at most this many times that of requests alone."""

WAL_MIB_MAX = 200
PAGE = "/dashboard"
PAGE_SECONDS_MAX = 30
SAMPLE_SECONDS = 0.05


class _Prepared(NamedTuple):
    """A server that may start, and the cookie of the visitor."""

    server: Server
    cookie: str


Neighbour = Callable[[_Prepared, threading.Event], int]
"""Runs until the event is set; gives how many pages or audits it has finished."""


def measure(bench: Bench) -> Result:
    """One engine after the other."""
    result = Result()
    with servers.upstream(bench.folder):
        for name, prepare in (("SQLite", _sqlite), ("PostgreSQL+Redis", _postgres)):
            bench.say(f"{name}: writing the requests")
            with prepare(bench) as prepared, servers.serving(prepared.server):
                _measure_engine(bench, result, name, prepared)
                audit = servers.audited(prepared.server)
            if not audit["clean"]:
                result.failures.append(f"{name}: the audit is not clean: {audit}")
    return result


@contextlib.contextmanager
def _sqlite(bench: Bench) -> Iterator[_Prepared]:
    folder = bench.folder / "sqlite"
    server = servers.prepare(folder)
    yield _Prepared(server, _write_history(folder, f"sqlite:///{folder / 'tok0n.db'}", _requests(bench)))


@contextlib.contextmanager
def _postgres(bench: Bench) -> Iterator[_Prepared]:
    folder = bench.folder / "postgres"
    with servers.postgres() as (database, _), servers.redis() as (backend, _):
        server = servers.prepare(folder, database=database, backend=backend)
        yield _Prepared(server, _write_history(folder, database, _requests(bench)))


def _requests(bench: Bench) -> int:
    return REQUESTS_QUICK if bench.quick else REQUESTS


def _write_history(folder: Path, url: str, requests: int) -> str:
    """Write the requests of the large account, and sign its visitor in; gives the cookie."""

    async def write() -> str:
        settings = load(folder / "tok0n.toml", environ={}, dotenv={}, overrides={})
        names = await pages.prepare(settings, requests)
        async with large.open_database(url) as database:
            await pages.write(database, requests, names)
        listener, settings = open_listener(settings)
        with listener:
            async with open_gateway(settings) as gateway, pages.signed_in(gateway.services) as (cookie, _):
                return cookie

    return asyncio.run(write())


def _measure_engine(bench: Bench, result: Result, engine: str, prepared: _Prepared) -> None:
    """Measure latencies alone and beside each neighbour, in turns."""
    neighbours: dict[str, Neighbour | None] = {"alone": None, "visitor": _visit, "audit": _audit}
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in neighbours}
    for number in range(bench.rounds):
        for name, neighbour in sorted(neighbours.items(), reverse=bool(number % 2)):
            seen[name].append(_round(bench, prepared, neighbour))
            bench.say(f"round {number + 1}: {engine}, {name}: {seen[name][-1]}")
    result.figures[engine] = seen
    alone_ms = statistics.median(one["p99"] for one in seen["alone"])
    result.add(f"{engine}: p99 of requests alone", f"{alone_ms:.1f} ms")
    for name in ("visitor", "audit"):
        ms = statistics.median(one["p99"] for one in seen[name])
        finished = statistics.median(one["finished"] for one in seen[name])
        value = f"{ms:.1f} ms, {ms / alone_ms:.1f} times  ({finished:g} finished in {bench.seconds} s)"
        reached = ms <= TIMES_MAX * alone_ms
        result.add(f"{engine}: p99 beside the {name}", value, f"≤ {TIMES_MAX:g} times", reached=reached)
    wal_mib = max(one["wal_mib"] for one in seen["audit"])
    if wal_mib:
        value = f"{wal_mib:.0f} MiB at most"
        result.add(f"{engine}: WAL beside the audit", value, f"≤ {WAL_MIB_MAX} MiB", reached=wal_mib <= WAL_MIB_MAX)


def _round(bench: Bench, prepared: _Prepared, neighbour: Neighbour | None) -> dict[str, Any]:
    """Send requests beside a neighbour; gives their latencies, what it finished, and the largest size of the WAL."""
    load = orders(
        prepared.server,
        per_second=PER_SECOND,
        seconds=bench.seconds,
        connections=CONNECTIONS,
        warm_up_seconds=WARM_UP_SECONDS,
    )
    assert prepared.server.folder is not None
    wal = prepared.server.folder / "tok0n.db-wal"
    script = Path(__file__).parent.parent / "open_loop.py"
    command = ["taskset", "-c", LOAD_CORE, sys.executable, str(script)]
    done = threading.Event()
    with ThreadPoolExecutor() as threads:
        finished = threads.submit(neighbour or _nothing, prepared, done)
        wal_bytes = threads.submit(_largest_size, wal, done)
        try:
            told = subprocess.run(command, input=json.dumps(load), capture_output=True, text=True, check=True)
        finally:
            done.set()
    seen = json.loads(told.stdout)
    answers = seen["answers"]["200"]
    if set(seen["answers"]) != {"200"} or seen["other"]:
        raise RuntimeError(f"not every request succeeded: {seen}")
    return {
        "p50": answers["p50"],
        "p99": answers["p99"],
        "finished": finished.result(),
        "wal_mib": wal_bytes.result() / 2**20,
    }


def _largest_size(path: Path, done: threading.Event) -> int:
    size = 0
    while not done.wait(SAMPLE_SECONDS):
        with contextlib.suppress(FileNotFoundError):
            size = max(size, path.stat().st_size)
    return size


def _nothing(_: _Prepared, __: threading.Event) -> int:
    return 0


def _visit(prepared: _Prepared, done: threading.Event) -> int:
    """Reload the page on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", prepared.server.port, timeout=PAGE_SECONDS_MAX)
    visits = 0
    with contextlib.closing(connection):
        while not done.is_set():
            connection.request("GET", PAGE, headers={"Cookie": f"tok0n={prepared.cookie}"})
            response = connection.getresponse()
            response.read()
            if response.status != http.client.OK:
                raise RuntimeError(f"{PAGE} has the status {response.status}")
            visits += 1
    if not visits:
        raise RuntimeError(f"{PAGE} was never opened")
    return visits


def _audit(prepared: _Prepared, done: threading.Event) -> int:
    """Audit again and again; the last audit is ended."""
    assert prepared.server.folder is not None
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "tok0n", "ledger", "audit", "--json"]
    audits = 0
    while not done.is_set():
        with subprocess.Popen(command, cwd=prepared.server.folder, stdout=subprocess.DEVNULL) as audit:
            while audit.poll() is None:
                if done.is_set():
                    audit.terminate()
                time.sleep(SAMPLE_SECONDS)
        if audit.returncode > 0:
            raise RuntimeError(f"an audit ended with the status {audit.returncode}")
        audits += audit.returncode == 0
    return audits
