"""The gateway beside nginx's bare proxy_pass, in one run: requests per second, and their ratio.

    make bench                        about four minutes; benchmarks/results/latest.json holds the figures
    make bench ARGS="--only sqlite"   one contender: sqlite, postgres or postgres2

All forward to the same upstream, an nginx that answers at once. The server under test has one core for itself; the
upstream, wrk, and PostgreSQL and Redis where they are used, share the other. (Two processes have both cores, and are
there for the CPU seconds: two cores cannot show that they scale.) Rounds are interleaved with nginx's, so that a noisy
hour hits both; medians are compared. Every request of ours is authenticated, admitted, reserved and settled durably
(SQLite with synchronous=FULL, PostgreSQL with fsync and synchronous_commit), and the ledger is audited afterwards.
"""

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import servers
from servers import GATEWAY_PORT, LOAD_CORE, NGINX_PORT

Figures = dict[str, object]
CONTENDERS = ("sqlite", "postgres", "postgres2")


def main() -> None:
    """Run, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", choices=CONTENDERS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as name:
        folder = Path(name)
        (folder / "body.lua").write_text(
            f"wrk.method='POST'\nwrk.body=[==[{servers.BODY}]==]\nwrk.headers['Content-Type']='application/json'\n"
        )
        results: dict[str, Figures] = {}
        with servers.upstream(folder), servers.proxy(folder):
            for contender in [options.only] if options.only else CONTENDERS:
                with _contender(contender, folder / contender) as (api_key, processes):
                    results[contender] = _measure(folder, api_key, processes, options)
                    audit = servers.tok0n(folder / contender, "ledger", "audit", "--json")
                results[contender]["audit"] = json.loads(audit)
    _report(results)


@contextlib.contextmanager
def _contender(name: str, folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Gives the API key, and the processes whose CPU seconds count."""
    if name == "sqlite":
        with servers.gateway(folder, database="sqlite:///tok0n.db", backend="memory://") as (api_key, pid):
            yield api_key, {"gateway": pid}
        return
    workers = 2 if name == "postgres2" else 1
    with (
        servers.postgres() as (database, postgres_pid),
        servers.redis() as (backend, redis_pid),
        servers.gateway(folder, database=database, backend=backend, workers=workers) as (api_key, pid),
    ):
        yield api_key, {"gateway": pid, "postgres": postgres_pid, "redis": redis_pid}


def _measure(folder: Path, api_key: str, processes: dict[str, int], options: argparse.Namespace) -> Figures:
    nginx, gateway, errors, requests = [], [], 0, 0
    cpu = dict.fromkeys(processes, 0.0)
    _wrk(folder, GATEWAY_PORT, api_key, seconds=3, connections=options.connections)
    for _ in range(options.rounds):
        nginx.append(_wrk(folder, NGINX_PORT, api_key, options.seconds, options.connections)["rps"])
        before = {name: servers.cpu_seconds(pid) for name, pid in processes.items()}
        round_ = _wrk(folder, GATEWAY_PORT, api_key, options.seconds, options.connections)
        for name, pid in processes.items():
            cpu[name] += servers.cpu_seconds(pid) - before[name]
        requests += int(round_["requests"])
        errors += int(round_["errors"])
        gateway.append(round_["rps"])
    single = _wrk(folder, GATEWAY_PORT, api_key, seconds=3, connections=1)
    single_nginx = _wrk(folder, NGINX_PORT, api_key, seconds=3, connections=1)
    return {
        "connections": options.connections,
        "nginx_rps": nginx,
        "gateway_rps": gateway,
        "ratio": statistics.median(gateway) / statistics.median(nginx),
        "errors": errors,
        "cpu_seconds_per_1000_requests": {name: 1000 * seconds / requests for name, seconds in cpu.items()},
        "p50_ms_one_connection": {"gateway": single["p50_ms"], "nginx": single_nginx["p50_ms"]},
        "resident_mib": servers.resident_mib(processes["gateway"]),
    }


def _report(results: dict[str, Figures]) -> None:
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))
    for name, figures in results.items():
        audit = figures["audit"]
        assert isinstance(audit, dict)
        if figures["errors"] or not audit["ok"]:
            sys.exit(f"FAILED: {name} had errors, or the audit found differences")


def _wrk(folder: Path, port: int, api_key: str, seconds: int, connections: int) -> dict[str, float]:
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += ["-s", str(folder / "body.lua"), "-H", f"Authorization: Bearer {api_key}"]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v1/chat/completions"], capture_output=True, text=True, check=True
    ).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    rps = re.search(r"Requests/sec:\s+([\d.]+)", out)
    total = re.search(r"(\d+) requests in", out)
    assert p50, out
    assert rps, out
    assert total, out
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p50[2]]
    errors = int(bad[1]) if bad else 0
    errors += sum(map(int, socket_errors.groups())) if socket_errors else 0
    return {"rps": float(rps[1]), "requests": int(total[1]), "errors": errors, "p50_ms": float(p50[1]) * scale}


if __name__ == "__main__":
    main()
