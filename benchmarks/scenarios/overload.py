"""Four times the capacity, offered for a minute by a client that does not wait: what is refused, and what is lost.

The capacity is what 64 connections reach right before. Then open_loop.py offers four times as much on 2,000
connections; where all of them wait for an answer, it cannot send, and says so. Five seconds of it go before what is
measured, in which connections are opened, ours to the upstream too. The client and the upstream share a core, and are
part of every latency. It does not show clients that heed `retry-after`, which would make it easier.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import servers
from bench import Bench, Result
from load import Load, wrk
from payloads import chat_body
from processes import LOAD_CORE, resident_mib
from servers import Server

CONNECTIONS = 64
OVERLOAD_CONNECTIONS = 2_000
TIMES = 4
SECONDS, SECONDS_QUICK = 60, 10
WARM_UP_SECONDS = 5
SAMPLE_SECONDS = 0.5


def measure(bench: Bench) -> Result:
    """Capacity, overload, audit."""
    result = Result()
    with servers.upstream(bench.folder), servers.embedded(bench.folder / "sqlite") as tok0n:
        wrk(bench.folder, tok0n, seconds=3, connections=CONNECTIONS)
        capacity = wrk(bench.folder, tok0n, seconds=bench.seconds, connections=CONNECTIONS)
        seconds = SECONDS_QUICK if bench.quick else SECONDS
        bench.say(f"capacity {capacity.per_second:,.0f}/s; offering {TIMES} times as much for {seconds} s")
        seen, memory_mib = _offer(tok0n, per_second=TIMES * capacity.per_second, seconds=seconds)
        audit = servers.audited(tok0n)
    result.figures = {"capacity": capacity._asdict(), "overload": seen, "resident_mib": memory_mib, "audit": audit}
    _tell(result, capacity, seen, memory_mib)
    result.add("overload: audit afterwards", f"{audit['requests']:,} requests, {audit['pending']} tokens pending")
    if not audit["clean"]:
        result.failures.append(f"the audit is not clean: {audit}")
    return result


def _offer(tok0n: Server, *, per_second: float, seconds: float) -> tuple[dict[str, Any], float]:
    """What the client saw, and the most memory that the gateway took meanwhile."""
    ordered = orders(
        tok0n,
        per_second=per_second,
        seconds=seconds,
        connections=OVERLOAD_CONNECTIONS,
        warm_up_seconds=WARM_UP_SECONDS,
    )
    script = str(Path(__file__).parent.parent / "open_loop.py")
    most, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(SAMPLE_SECONDS):
            most = max(most, resident_mib(tok0n.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        command = ["taskset", "-c", LOAD_CORE, sys.executable, script]
        told = subprocess.run(command, input=json.dumps(ordered), capture_output=True, text=True, check=True)
    finally:
        done.set()
        watching.join()
    return json.loads(told.stdout), most


def orders(server: Server, **more: float) -> dict[str, Any]:
    """What open_loop.py is told."""
    lines = [f"POST {server.path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in server.headers.items()]
    return {"port": server.port, "head": "\r\n".join(lines) + "\r\n", "body": chat_body(), **more}


def _tell(result: Result, capacity: Load, seen: dict[str, Any], memory_mib: float) -> None:
    offered = (seen["sent"] + seen["could_not_be_sent"]) / seen["seconds"]
    good = seen["answers"].get("200", {"count": 0, "p50": 0.0, "p99": 0.0})
    refused = seen["answers"].get("503", {"count": 0, "p50": 0.0, "p99": 0.0})
    others = {status: told["count"] for status, told in seen["answers"].items() if status not in {"200", "503"}}
    others |= seen["other"]
    result.add("overload: offered", f"{offered:,.0f}/s, of it sent {seen['sent'] / seen['seconds']:,.0f}/s")
    served = seen["answered_meanwhile"].get("200", 0) / seen["seconds"]
    value = f"{served:,.0f}/s of {capacity.per_second:,.0f}/s  (p50 {good['p50']:.0f} ms, p99 {good['p99']:.0f} ms;"
    value += f" at capacity {capacity.p50_ms:.0f} and {capacity.p99_ms:.0f} ms)"
    result.add("overload: answered 200", value)
    value = f"{seen['answered_meanwhile'].get('503', 0) / seen['seconds']:,.0f}/s"
    value += f"  (p50 {refused['p50']:.0f} ms, p99 {refused['p99']:.0f} ms)"
    reached = refused["count"] > 0 and not seen["refusals_without_retry_after"]
    result.add("overload: answered 503", value, "retry-after", reached=reached)
    result.add("overload: anything else", f"{others or 'nothing'}", "nothing", reached=not others)
    result.add("overload: resident memory", f"{memory_mib:.0f} MiB at most")
