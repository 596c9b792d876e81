"""Resident memory: idle, and after many requests, with samples between that tell whether it is flat.

Idle is measured twice: right after the first answer, and after ten seconds, when the SDKs that few need have been
imported behind it. A limiter that is exact remembers each request of the last minute, which is part of the figure: with
limits as high as they are here that is every request, on a server whose limits are the default it is a few hundred.
"""

import time

import servers
from bench import Bench, Result
from load import wrk
from processes import resident_mib

FLOOR_IDLE_MIB, FLOOR_LOADED_MIB = 70.0, 120.0
IDLE_SECONDS = 10.0
REQUESTS, REQUESTS_QUICK = 1_000_000, 50_000
CONNECTIONS = 64
FLAT_MIB = 5.0
"""What the second half may add and still be called flat."""


def measure(bench: Bench) -> Result:
    """Look, wait, look; then load and look."""
    result = Result()
    wanted = REQUESTS_QUICK if bench.quick else REQUESTS
    samples: list[tuple[int, float]] = []
    with servers.upstream(bench.folder), servers.embedded(bench.folder / "sqlite") as tok0n:
        first = resident_mib(tok0n.pid)
        time.sleep(IDLE_SECONDS)
        idle = resident_mib(tok0n.pid)
        done = errors = 0
        while done < wanted:
            load = wrk(bench.folder, tok0n, seconds=2 if bench.quick else 10, connections=CONNECTIONS)
            done, errors = done + load.requests, errors + load.errors
            samples.append((done, resident_mib(tok0n.pid)))
            bench.say(f"{done:,} requests: {samples[-1][1]:.1f} MiB")
        audit = servers.audited(tok0n)
    loaded = samples[-1][1]
    half = next(mib for count, mib in samples if count >= done / 2)
    result.figures = {"first_mib": first, "idle_mib": idle, "samples": samples, "requests": done}
    value = f"{first:.1f} MiB at the first answer, {idle:.1f} MiB {IDLE_SECONDS:g} s later"
    result.add("resident memory, idle", value, f"≤ {FLOOR_IDLE_MIB:g} MiB", reached=max(first, idle) <= FLOOR_IDLE_MIB)
    value = f"{loaded:.1f} MiB after {done:,} requests, {half:.1f} after half of them"
    reached = loaded <= FLOOR_LOADED_MIB and loaded - half <= FLAT_MIB
    result.add(
        "resident memory, loaded", value, f"≤ {FLOOR_LOADED_MIB:g} MiB, flat", reached=None if bench.quick else reached
    )
    if errors or not audit["clean"]:
        result.failures.append(f"{errors} errors; audit: {audit}")
    return result
