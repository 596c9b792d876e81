"""Requests a second on one core, 64 connections, an upstream that answers at once; and the CPU seconds they take.

Every contender is started, and each round loads each of them once, so that a noisy minute hits all; medians are
compared. wrk and the upstream have the other core, and PostgreSQL and Redis too: where that core is busy to the last
(the table says so), the contender could have done more. That is so for nginx, which the ratios therefore flatter us by,
and for PostgreSQL + Redis. It does not show that several processes scale: two cores cannot.

Peers do less per request than we do (each peer's file says what), which is in their favour.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator

import servers
from bench import Bench, Result
from load import Load, answers, wrk
from processes import GATEWAY_CORE, LOAD_CORE, cpu_seconds
from servers import Server

CONNECTIONS = 64
WARM_UP_SECONDS = 3
IDLE_SECONDS = 3.0
IDLE_SHARE_MAX = 0.02
"""What a contender may use of its core while another is measured."""

INTRUDERS_MAX = 0.10
"""What other programs may use of its core before the table says so: here are also the kernel's own threads."""

NGINX, SQLITE, POSTGRES = "nginx", "Tok0n SQLite", "Tok0n PostgreSQL+Redis"
FLOOR_SQLITE, FLOOR_POSTGRES = 0.20, 0.12
FLOOR_CPU_SECONDS = 0.11
FLOORS_OVER_PEERS = {"tensorzero": 2.5, "portkey": 10.0, "litellm": 100.0}


def measure(bench: Bench) -> Result:
    """All contenders, in turns."""
    result = Result()
    with contextlib.ExitStack() as stack:
        contenders = list(_contenders(bench, stack, result))
        rounds = _rounds(bench, contenders, result)
        medians = {name: statistics.median(load.per_second for load in loads) for name, loads in rounds.items()}
        for contender in contenders:
            _tell(contender, rounds[contender.name], medians, result)
        for contender in contenders:
            if contender.folder is not None:
                _audit(contender, rounds[contender.name], result)
    _compare(medians, result)
    _tell_cores(result)
    return result


def _contenders(bench: Bench, stack: contextlib.ExitStack, result: Result) -> Iterator[Server]:
    stack.enter_context(servers.upstream(bench.folder))
    yield stack.enter_context(servers.proxy(bench.folder))
    yield stack.enter_context(servers.embedded(bench.folder / "sqlite"))
    yield stack.enter_context(servers.scaled(bench.folder / "postgres"))
    if not bench.with_peers:
        return
    yield from servers.peers(bench, stack, result, upstream_port=servers.UPSTREAM_PORT)


def _rounds(bench: Bench, contenders: list[Server], result: Result) -> dict[str, list[Load]]:
    for contender in contenders:
        bench.say(f"warming up {contender.name}")
        if not answers(contender):
            result.failures.append(f"{contender.name} gave no completion")
        wrk(bench.folder, contender, seconds=WARM_UP_SECONDS, connections=CONNECTIONS)
    _look_whether_idle(contenders, result)
    rounds: dict[str, list[Load]] = {contender.name: [] for contender in contenders}
    for number in range(bench.rounds):
        for contender in contenders:
            load = wrk(bench.folder, contender, seconds=bench.seconds, connections=CONNECTIONS)
            rounds[contender.name].append(load)
            bench.say(f"round {number + 1}: {contender.name} {load.per_second:,.0f}/s, {load.errors} errors")
    return rounds


def _look_whether_idle(contenders: list[Server], result: Result) -> None:
    before = {one.name: _used(one) for one in contenders}
    time.sleep(IDLE_SECONDS)
    shares = {one.name: (_used(one) - before[one.name]) / IDLE_SECONDS for one in contenders}
    result.figures["idle_share_of_a_core"] = shares
    for name, share in shares.items():
        if share > IDLE_SHARE_MAX:
            result.add(f"{name}, while it should be idle", f"{share:.0%} of a core")


def _used(contender: Server) -> float:
    return sum(map(cpu_seconds, contender.parts.values()))


def _tell(contender: Server, loads: list[Load], medians: dict[str, float], result: Result) -> None:
    requests = sum(load.requests for load in loads)
    cpu = {part: 1000 * sum(load.cpu[part] for load in loads) / requests for part in contender.parts}
    errors = sum(load.errors for load in loads)
    busy = {core: statistics.median(load.busy[core] for load in loads) for core in (GATEWAY_CORE, LOAD_CORE)}
    figures = {
        "requests_per_second": [load.per_second for load in loads],
        "median": medians[contender.name],
        "errors": errors,
        "p50_ms": statistics.median(load.p50_ms for load in loads),
        "p99_ms": statistics.median(load.p99_ms for load in loads),
        "cpu_seconds_per_1000_requests": cpu,
        "others_on_its_core": [load.intruders for load in loads],
        "busy": {"its core": busy[GATEWAY_CORE], "the other core": busy[LOAD_CORE]},
    }
    result.figures.setdefault(contender.name, {}).update(figures)
    spent = ", ".join(f"{part} {seconds:.3f}" for part, seconds in cpu.items())
    value = f"{medians[contender.name]:,.0f}"
    value += f"  (its core {busy[GATEWAY_CORE]:.0%} busy, the other {busy[LOAD_CORE]:.0%}; {errors} errors)"
    if max(load.intruders for load in loads) > INTRUDERS_MAX:
        value += "  DISTURBED by other programs on its core"
    result.add(f"requests/s, {contender.name}", value)
    if contender.name == SQLITE:
        reached = cpu["gateway"] <= FLOOR_CPU_SECONDS
        result.add(f"CPU seconds per 1,000 requests, {SQLITE}", spent, f"≤ {FLOOR_CPU_SECONDS}", reached=reached)
    else:
        result.add(f"CPU seconds per 1,000 requests, {contender.name}", spent)
    if errors and contender.folder is not None:
        result.failures.append(f"{contender.name}: {errors} errors")


def _audit(contender: Server, loads: list[Load], result: Result) -> None:
    audit = servers.audited(contender)
    result.figures[contender.name]["audit"] = audit
    answered = sum(load.requests - load.errors for load in loads)
    charged = audit["entries"] - 1  # the grant
    result.add(f"audit, {contender.name}", f"{charged:,} charges for {answered:,} measured answers, and the warm-up's")
    if not audit["clean"] or charged < answered:
        result.failures.append(f"{contender.name}: the audit is not clean: {audit}")


def _compare(medians: dict[str, float], result: Result) -> None:
    for name, floor, aim in ((SQLITE, FLOOR_SQLITE, ", aim 0.30"), (POSTGRES, FLOOR_POSTGRES, "")):
        ratio = medians[name] / medians[NGINX]
        result.figures[name]["ratio_to_nginx"] = ratio
        result.add(f"{name} / nginx proxy_pass", f"{ratio:.3f}", f"≥ {floor:.2f}{aim}", reached=ratio >= floor)
    for peer, median in medians.items():
        if peer in {NGINX, SQLITE, POSTGRES} or not median:
            continue
        times = medians[SQLITE] / median
        result.figures.setdefault(peer, {})["tok0n_sqlite_over_it"] = times
        floor_over = next((floor for name, floor in FLOORS_OVER_PEERS.items() if peer.lower().startswith(name)), None)
        result.add(
            f"{SQLITE} / {peer}",
            f"{times:.1f} times",
            f"≥ {floor_over:g} times" if floor_over else "",
            reached=times >= floor_over if floor_over else None,
        )


def _tell_cores(result: Result) -> None:
    """CPU seconds per 1,000 requests times ten are the cores that 10,000 requests a second take."""
    cpu = result.figures[POSTGRES]["cpu_seconds_per_1000_requests"]
    cores = {part: seconds * 10 for part, seconds in cpu.items()}
    result.figures["cores_for_10000_requests_per_second"] = cores
    told = ", ".join(f"{part} {number:.1f}" for part, number in cores.items())
    result.add("cores for 10,000 requests/s, computed from these", told)
