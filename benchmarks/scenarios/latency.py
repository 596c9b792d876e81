"""What a call takes longer than through nginx, one at a time; and what of it the disk takes.

One connection, an upstream that answers at once: the median of SQLite less that of nginx's proxy_pass, in turns. Each
call is committed twice (reserved, settled), and each commit waits for the disk. How long the disk takes is measured
apart, in the same folder and minute: the median of an fdatasync after an append of 4, 8 and 16 KiB, and after writing
16 KiB over what is there already, as SQLite's log does once it is full grown. What one call has written is what the
kernel counts, so a reader can see which size is nearest.

It does not show latencies under load: see throughput (p50_ms and p99_ms in the figures) and overload.
"""

import os
import statistics
import time
from pathlib import Path

import servers
from bench import Bench, Result
from load import Load, wrk
from processes import bytes_written
from servers import Server

FLOOR_MS = 1.0
COMMITS_PER_CALL = 2
SYNCS = 200
SECONDS = 3
KIB = 1024
SIZES = {"append 4 KiB": 4, "append 8 KiB": 8, "append 16 KiB": 16}
LIKE_A_COMMIT = "overwrite 16 KiB"


def measure(bench: Bench) -> Result:
    """In turns: nginx, Tok0n, the disk."""
    result = Result()
    folder = bench.folder / "sqlite"
    with servers.upstream(bench.folder), servers.proxy(bench.folder) as nginx, servers.embedded(folder) as tok0n:
        for server in (nginx, tok0n):
            _one_at_a_time(bench, server, seconds=1)
        through, ours, syncs = [], [], []
        calls, written = 0, -bytes_written(tok0n.pid)
        for _ in range(bench.rounds):
            through.append(_one_at_a_time(bench, nginx))
            ours.append(_one_at_a_time(bench, tok0n))
            calls += ours[-1].requests
            syncs.append(_sync_ms(folder))
        written += bytes_written(tok0n.pid)
        audit = servers.audited(tok0n)
    errors = sum(load.errors for load in (*through, *ours))
    if errors or not audit["clean"]:
        result.failures.append(f"{errors} errors; audit: {audit}")
    _tell(result, through, ours, syncs, written_a_call=written / calls)
    return result


def _tell(
    result: Result, through: list[Load], ours: list[Load], syncs: list[dict[str, float]], *, written_a_call: float
) -> None:
    nginx_ms, ours_ms = (statistics.median(load.p50_ms for load in loads) for loads in (through, ours))
    sync_ms = {kind: statistics.median(one[kind] for one in syncs) for kind in syncs[0]}
    added_ms = ours_ms - nginx_ms
    disk_ms = COMMITS_PER_CALL * sync_ms[LIKE_A_COMMIT]
    result.figures = {
        "nginx_p50_ms": nginx_ms,
        "tok0n_p50_ms": ours_ms,
        "tok0n_p99_ms": statistics.median(load.p99_ms for load in ours),
        "added_ms": added_ms,
        "fdatasync_p50_ms": sync_ms,
        "disk_ms_a_call": disk_ms,
        "bytes_written_a_call": written_a_call,
    }
    result.add("p50 of one call, Tok0n SQLite", f"{ours_ms:.2f} ms")
    result.add("p50 of one call, nginx", f"{nginx_ms:.2f} ms")
    result.add("added latency", f"{added_ms:.2f} ms", f"≤ {FLOOR_MS} ms", reached=added_ms <= FLOOR_MS)
    told = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in sync_ms.items())
    result.add("of it the disk", f"{disk_ms:.2f} ms  (two commits; one fdatasync: {told})")
    result.add("written for one call", f"{written_a_call / KIB:.0f} KiB")


def _one_at_a_time(bench: Bench, server: Server, seconds: float = SECONDS) -> Load:
    return wrk(bench.folder, server, seconds=seconds, connections=1)


def _sync_ms(folder: Path) -> dict[str, float]:
    """The median of each kind of write."""
    path = folder / "fdatasync"
    took = {}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for kind, kib in SIZES.items():
            took[kind] = statistics.median(_sync(descriptor, os.urandom(kib * KIB)) for _ in range(SYNCS))
        block = os.urandom(16 * KIB)
        end = os.lseek(descriptor, 0, os.SEEK_CUR) - len(block)
        offsets = range(0, end, max(1, end // SYNCS // len(block)) * len(block))
        overwritten = []
        for offset in offsets[:SYNCS]:
            os.lseek(descriptor, offset, os.SEEK_SET)
            overwritten.append(_sync(descriptor, block))
        took[LIKE_A_COMMIT] = statistics.median(overwritten)
    finally:
        os.close(descriptor)
        path.unlink()
    return took


def _sync(descriptor: int, block: bytes) -> float:
    began = time.perf_counter()
    os.write(descriptor, block)
    os.fdatasync(descriptor)
    return (time.perf_counter() - began) * 1000
