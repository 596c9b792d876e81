"""A thousand calls at once whose upstream takes 30 seconds: all are held, cheaply, and pages are answered meanwhile.

The calls are made by open_loop.py, a thousand connections that send one request each; memory is compared with that of
the gateway right before, after a warm-up. What the kernel keeps for two thousand sockets is not in it.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import servers
from bench import Bench, Result, summary
from load import wrk
from processes import LOAD_CORE, resident_mib
from servers import Server

from scenarios.overload import orders

CALLS = 1_000
UPSTREAM_SECONDS = 30.0
SEND_SECONDS = 4.0
PAGES_FROM_SECONDS, PAGES = 10.0, 50
PATHS = ("/", "/v1/models")
FLOOR_KIB, FLOOR_PAGE_MS = 30.0, 100.0


def measure(bench: Bench) -> Result:
    """Warm up, look, call, look."""
    result = Result()
    with (
        servers.paced_upstream(seconds=UPSTREAM_SECONDS) as slow,
        servers.embedded(bench.folder / "sqlite", upstream_port=slow.port) as tok0n,
    ):
        for path in PATHS:
            _page_ms(tok0n, path)
        wrk(bench.folder, tok0n, seconds=1, connections=8)  # warms up; they are answered after wrk has gone
        time.sleep(UPSTREAM_SECONDS + 1)
        before = resident_mib(tok0n.pid)
        seen: dict[str, Any] = {}
        calling = threading.Thread(target=lambda: seen.update(_call(tok0n)))
        calling.start()
        time.sleep(PAGES_FROM_SECONDS)
        during = resident_mib(tok0n.pid)
        pages = {path: summary([_page_ms(tok0n, path) for _ in range(PAGES)]) for path in PATHS}
        calling.join()
        audit = servers.audited(tok0n)
    kib = (during - before) * 1024 / CALLS
    answered = seen["answers"].get("200", {"count": 0})["count"]
    result.figures = {"before_mib": before, "during_mib": during, "seen": seen, "pages_ms": pages, "audit": audit}
    result.add(f"{CALLS:,} slow calls at once", f"{answered:,} answered 200", "all", reached=answered == CALLS)
    result.add("memory of each", f"{kib:.1f} KiB", f"≤ {FLOOR_KIB:g} KiB", reached=kib <= FLOOR_KIB)
    for path, told in pages.items():
        value = f"p50 {told['p50']:.1f} ms, longest {told['max']:.1f} ms"
        result.add(f"GET {path} meanwhile", value, f"≤ {FLOOR_PAGE_MS:g} ms", reached=told["max"] <= FLOOR_PAGE_MS)
    if not audit["clean"]:
        result.failures.append(f"the audit is not clean: {audit}")
    return result


def _call(tok0n: Server) -> dict[str, Any]:
    """Each connection sends one request within some seconds, and waits for it."""
    script = str(Path(__file__).parent.parent / "open_loop.py")
    ordered = orders(tok0n, per_second=CALLS, seconds=SEND_SECONDS, connections=CALLS, warm_up_seconds=0)
    command = ["taskset", "-c", LOAD_CORE, sys.executable, script]
    told = subprocess.run(command, input=json.dumps(ordered), capture_output=True, text=True, check=True)
    seen: dict[str, Any] = json.loads(told.stdout)
    return seen


def _page_ms(tok0n: Server, path: str) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", tok0n.port, timeout=60)
    connection.request("GET", path)
    connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - began) * 1000
