"""What a request costs when each comes from a random one of many customers, beside a single customer's.

The database has as many accounts as keys, one key each, without a history (`large.py` writes one). Each round loads
the same gateway twice: with one key, and with a random key in each request. The order changes from round to round.
The ratios of a round's rate and CPU are many keys to one key; the table has their medians. It does not show customers
of different sizes, nor a database larger than memory.
"""

import contextlib
import statistics
from collections.abc import Callable
from typing import Any

import servers
from bench import Bench, Result
from load import Load, answers, warm_up, wrk
from servers import Server

CONNECTIONS = 64
ENGINES: dict[str, Callable[..., contextlib.AbstractContextManager[Server]]] = {
    "SQLite": servers.embedded,
    "PostgreSQL+Redis": servers.scaled,
}


def measure(bench: Bench) -> Result:
    """One engine after the other."""
    result = Result()
    with servers.upstream(bench.folder):
        for name, start in ENGINES.items():
            bench.say(f"{name}: writing {bench.keys:,} accounts")
            with start(bench.folder / name, keys=bench.keys) as tok0n:
                many, one = _rounds(bench, name, tok0n)
                audit = servers.audited(tok0n)
            _add(result, name, many, one, keys=bench.keys)
            errors = sum(load.errors for load in (*many, *one))
            if errors or not audit["clean"]:
                result.failures.append(f"{name}: {errors} errors; audit: {audit}")
    return result


def _rounds(bench: Bench, name: str, tok0n: Server) -> tuple[list[Load], list[Load]]:
    """Load with many keys and with one, in turns."""
    single_path = bench.folder / "one-key.txt"
    single_path.write_text(tok0n.headers["Authorization"].removeprefix("Bearer ") + "\n")
    many, one = tok0n, tok0n._replace(keys_path=single_path)  # the load generator does the same work for both
    if not answers(tok0n):
        raise RuntimeError(f"{name} gave no completion")
    for server in (one, many):
        warm_up(bench.folder, server, connections=CONNECTIONS)
    loads: tuple[list[Load], list[Load]] = ([], [])
    for number in range(bench.rounds):
        sides = list(zip((many, one), loads, strict=True))
        for server, taken in sides if number % 2 else reversed(sides):
            taken.append(wrk(bench.folder, server, seconds=bench.seconds, connections=CONNECTIONS))
        rates = ", ".join(f"{taken[-1].per_second:,.0f}/s" for taken in loads)
        bench.say(f"round {number + 1}: {name}, many keys and one: {rates}")
    return loads


def _add(result: Result, name: str, many: list[Load], one: list[Load], *, keys: int) -> None:
    """Add the figures of both, and their ratios."""
    parts = [part for part in one[0].cpu if part != "redis"]
    rate_ratio = statistics.median(a.per_second / b.per_second for a, b in zip(many, one, strict=True))
    figures: dict[str, Any] = {"keys": keys, "rate_ratio": rate_ratio}
    rates = [statistics.median(load.per_second for load in loads) for loads in (many, one)]
    value = f"{rate_ratio:.3f}  ({rates[0]:,.0f}/s and {rates[1]:,.0f}/s)"
    result.add(f"{name}: requests/s, {keys:,} keys / one key", value)
    for part in parts:
        costs = [[_cpu_ms(load, part) for load in loads] for loads in (many, one)]
        ratios = [a / b for a, b in zip(*costs, strict=True) if b]
        ratio = statistics.median(ratios) if ratios else float("nan")
        figures |= {f"{part}_cpu_ratio": ratio, f"{part}_cpu_ms_per_call": costs}
        value = f"{ratio:.3f}  ({statistics.median(costs[0]):.4f} ms and {statistics.median(costs[1]):.4f} ms)"
        result.add(f"{name}: CPU per call of {part}, {keys:,} keys / one key", value)
    result.figures[name] = figures


def _cpu_ms(load: Load, part: str) -> float:
    return 1000 * load.cpu[part] / load.requests
