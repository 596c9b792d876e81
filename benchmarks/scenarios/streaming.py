"""Streams through one core: the time to the first event, events and whole streams a second, memory.

The load and the upstream share the other core. Time to the first event is measured with streams of 20 events at 50 a
second, one at a time and 256; events a second with 800 streams of 200 events at 50 a second, which is 40,000 events a
second if nobody falls behind; whole streams with 64 connections and an upstream that sends 20 events at once. All of
Tok0n's streams are reserved, settled durably and logged. It does not show how peers bill: of these, none does.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import servers
from bench import Bench, Result
from payloads import chat_body
from processes import LOAD_CORE, CoreWatch, cpu_seconds, resident_mib, running
from servers import Server

PACES = {"first event": (20, 50.0), "events": (200, 50.0), "whole": (20, 0.0)}
FIRST_EVENT_STREAMS = (1, 256)
EVENT_STREAMS = 800
WHOLE_STREAMS = 64
MEMORY_STREAMS = (1_000, 5_000)
MEMORY_PACE = (1_000, 2.0)
FIRST_EVENT_MS_MAX = 1.5
EVENTS_PER_SECOND_MIN = 40_000
STREAM_KIB_MAX = 40


def measure(bench: Bench) -> Result:
    """One pace after the other; at each, the upstream itself, nginx, Tok0n and the peers in turns."""
    result = Result()
    for what, (events, per_second) in PACES.items():
        with contextlib.ExitStack() as stack:
            stack.enter_context(_upstream(events, per_second))
            contenders = list(_contenders(bench, stack, result))
            for _ in range(bench.rounds):
                for contender in contenders:
                    _measure(bench, contender, what, result)
            _audit(contenders, result)
    _tell(result)
    _memory(bench, result)
    return result


@contextlib.contextmanager
def _upstream(events: int, per_second: float) -> Iterator[None]:
    script = Path(__file__).parent.parent / "streaming_upstream.py"
    command: list[str | Path] = [sys.executable, script, str(servers.PACED_PORT), str(events), str(per_second)]
    with running(command, core=LOAD_CORE):
        servers.until(["curl", "-s", "-X", "POST", "-d", "{}", f"http://127.0.0.1:{servers.PACED_PORT}/"])
        yield


def _contenders(bench: Bench, stack: contextlib.ExitStack, result: Result) -> Iterator[Server]:
    port = servers.PACED_PORT
    yield Server("upstream", port, {})
    yield stack.enter_context(servers.proxy(bench.folder, upstream_port=port, buffering=False))
    yield stack.enter_context(_tok0n(bench))
    if bench.with_peers:
        yield from servers.peers(bench, stack, result, upstream_port=port)


def _tok0n(bench: Bench) -> contextlib.AbstractContextManager[Server]:
    folder = bench.folder / f"sqlite-{time.monotonic_ns()}"
    return servers.embedded(folder, upstream_port=servers.PACED_PORT, server="streaming = true\nstreams_max = 10000")


def _measure(bench: Bench, contender: Server, what: str, result: Result) -> None:
    counts = {"first event": FIRST_EVENT_STREAMS, "events": (EVENT_STREAMS,), "whole": (WHOLE_STREAMS,)}[what]
    for count in counts:
        load = _load(contender, count, what, seconds=bench.seconds)
        bench.say(f"{what}, {count} streams, {contender.name}: {_short(load)}")
        figures = result.figures.setdefault(f"{what}, {count} streams", {})
        figures.setdefault(contender.name, []).append(load)


def _load(server: Server, connections: int, what: str, *, seconds: float) -> dict[str, Any]:
    events, per_second = PACES[what]
    period = events / per_second if per_second else 0.0
    head = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
    body = json.loads(chat_body(server.model)) | {"stream": True, "stream_options": {"include_usage": True}}
    orders = {
        "port": server.port,
        "head": f"POST {server.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{head}",
        "body": json.dumps(body),
        "connections": connections,
        "seconds": max(seconds, period * 1.5),
        "stagger_seconds": min(period, 4.0),
        "warm_up_seconds": 1.0,
    }
    watch, before = CoreWatch(), {part: cpu_seconds(pids) for part, pids in server.parts.items()}
    script = Path(__file__).parent.parent / "streaming_load.py"
    command = ["taskset", "-c", LOAD_CORE, sys.executable, str(script)]
    done = subprocess.run(command, input=json.dumps(orders), capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    told["cpu"] = {part: cpu_seconds(pids) - before[part] for part, pids in server.parts.items()}
    told["busy"] = watch.busy()
    return told


def _short(load: dict[str, Any]) -> str:
    first = load["first_event"]
    busy = ", ".join(f"core {core} {share:.0%}" for core, share in load["busy"].items())
    return (
        f"{load['events'] / load['seconds']:,.0f} events/s, {load['streams'] / load['seconds']:,.0f} streams/s, first"
        f" event p50 {first['p50'] * 1000:.2f} ms, p99 {first['p99'] * 1000:.2f} ms; {busy}; {load['errors'] or ''}"
    )


def _audit(contenders: list[Server], result: Result) -> None:
    for contender in contenders:
        if contender.folder is not None:
            audit = servers.audited(contender)
            if not audit["clean"]:
                result.failures.append(f"audit of {contender.name}: {audit}")


def _tell(result: Result) -> None:
    """Add the medians to the table. Errors of Tok0n make the run fail."""
    for what, by_name in list(result.figures.items()):
        if what == "peers":
            continue
        direct = _median(by_name["upstream"], "first")
        for name, loads in by_name.items():
            errors = {kind: count for load in loads for kind, count in load["errors"].items()}
            if errors and name.startswith("Tok0n"):
                result.failures.append(f"{what}, {name}: {errors}")
            if what.startswith("first event"):
                added = _median(loads, "first") - direct
                p99 = statistics.median(load["first_event"]["p99"] for load in loads) * 1000
                is_ours = name.startswith("Tok0n") and ", 1 " in what
                value, floor = f"+{added:.2f} ms p50, p99 {p99:.2f} ms", f"{FIRST_EVENT_MS_MAX} ms" if is_ours else ""
                reached = added <= FIRST_EVENT_MS_MAX if is_ours else None
            elif what.startswith("events"):
                rate = _median(loads, "events")
                is_ours = name.startswith("Tok0n")
                value, floor = f"{rate:,.0f}/s", f"{EVENTS_PER_SECOND_MIN:,}/s" if is_ours else ""
                reached = rate >= EVENTS_PER_SECOND_MIN * 0.98 if is_ours else None
            else:
                value, floor, reached = f"{_median(loads, 'streams'):,.0f} streams/s", "", None
            result.add(f"{what}, {name}", value + (f"  errors: {errors}" if errors else ""), floor, reached=reached)


def _median(loads: list[dict[str, Any]], what: str) -> float:
    if what == "first":
        return statistics.median(float(load["first_event"]["p50"]) for load in loads) * 1000
    return statistics.median(float(load[what]) / float(load["seconds"]) for load in loads)


def _memory(bench: Bench, result: Result) -> None:
    """Open many slow streams, and divide what the process has grown by."""
    if bench.quick:
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_upstream(*MEMORY_PACE))
        tok0n = stack.enter_context(_tok0n(bench))
        idle = resident_mib(tok0n.pid)
        for count in MEMORY_STREAMS:
            kib = (_resident_with(tok0n, count) - idle) * 1024 / count
            reached = kib <= STREAM_KIB_MAX
            result.figures[f"memory, {count} streams"] = kib
            result.add(
                f"memory of a stream, {count:,} open", f"{kib:.1f} KiB", f"{STREAM_KIB_MAX} KiB", reached=reached
            )


def _resident_with(server: Server, count: int) -> float:
    """Open streams that go on for minutes, and return the resident MiB while they are open."""
    head = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
    body = json.dumps(json.loads(chat_body(server.model)) | {"stream": True})
    request = (
        f"POST {server.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{head}"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )
    script = Path(__file__).parent.parent / "open_streams.py"
    command = ["taskset", "-c", LOAD_CORE, sys.executable, str(script), str(server.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        try:
            opened = process.stdout.readline().strip()
            resident = resident_mib(server.pid)
        finally:
            process.terminate()
    if opened != str(count):
        assert server.folder is not None
        last = (server.folder / "server.log").read_text().splitlines()[-3:]
        sys.exit("\n".join([f"only {opened} of {count} streams had an event", *last]))
    return resident
