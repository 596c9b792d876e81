"""256 connections, an upstream that takes 50 ms: how near to the ideal a gateway is that is not the bottleneck.

Ideal is connections / 50 ms. The connections begin spread over the first 50 ms, as they would be after a while: all at
once they would come back all at once, and wait for each other. nginx and the upstream itself, asked directly, show what
the load and the upstream lose on their own.
"""

import contextlib
import statistics

import servers
from bench import Bench, Result
from load import Load, wrk
from servers import Server

CONNECTIONS = 256
UPSTREAM_SECONDS = 0.05
FLOOR = 0.95


def measure(bench: Bench) -> Result:
    """In turns: the upstream, nginx, Tok0n."""
    result = Result()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(servers.paced_upstream(seconds=UPSTREAM_SECONDS))
        proxy = stack.enter_context(servers.proxy(bench.folder, upstream_port=servers.PACED_PORT))
        tok0n = stack.enter_context(servers.embedded(bench.folder / "sqlite", upstream_port=servers.PACED_PORT))
        contenders = (upstream, proxy, tok0n)
        for contender in contenders:
            _load(bench, contender, seconds=2)
        rounds: dict[str, list[Load]] = {contender.name: [] for contender in contenders}
        for _ in range(bench.rounds):
            for contender in contenders:
                rounds[contender.name].append(_load(bench, contender, seconds=bench.seconds))
        audit = servers.audited(tok0n)
    for contender in contenders:
        _tell(contender, rounds[contender.name], result, floor=FLOOR if contender is tok0n else None)
    errors = sum(load.errors for load in rounds[tok0n.name])
    if errors or not audit["clean"]:
        result.failures.append(f"{errors} errors; audit: {audit}")
    return result


def _load(bench: Bench, server: Server, *, seconds: float) -> Load:
    period_ms = UPSTREAM_SECONDS * 1000
    return wrk(bench.folder, server, seconds=seconds, connections=CONNECTIONS, stagger_ms=period_ms)


def _tell(contender: Server, loads: list[Load], result: Result, *, floor: float | None) -> None:
    ideal = CONNECTIONS / UPSTREAM_SECONDS
    share = statistics.median(load.per_second for load in loads) / ideal
    result.figures[contender.name] = {
        "requests_per_second": [load.per_second for load in loads],
        "share_of_ideal": share,
        "p50_ms": statistics.median(load.p50_ms for load in loads),
        "p99_ms": statistics.median(load.p99_ms for load in loads),
    }
    p50, p99 = (result.figures[contender.name][name] for name in ("p50_ms", "p99_ms"))
    value = f"{share:.3f} of {ideal:,.0f}/s  (p50 {p50:.1f} ms, p99 {p99:.1f} ms)"
    if floor is None:
        result.add(f"upstream of 50 ms, {contender.name}", value)
    else:
        result.add(f"upstream of 50 ms, {contender.name}", value, f"≥ {floor:.2f}", reached=share >= floor)
