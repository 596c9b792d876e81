"""Every figure that Tok0n is measured by, in one run beside nginx and the peers: a table, and results/latest.json.

    make bench                                        all of it
    make bench-quick                                  the main figures in two, without the peers
    make bench ARGS="--only throughput --only latency --rounds 5"

The server under test has one core for itself; the load, the upstream, and PostgreSQL and Redis where they are used,
share the other. Each module of scenarios/ says how it measures, and what it does not show. One run at a time: two on
the same cores would falsify each other, so a second one waits.
"""

import argparse
import contextlib
import fcntl
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import report
from bench import Bench, Result
from processes import LOAD_CORE

from tok0n.bootstrap.open_files import allow_many_files

LOCK = Path(tempfile.gettempdir()) / "tok0n-bench.lock"
SCENARIOS = (
    "throughput",
    "latency",
    "slow_upstream",
    "memory",
    "start",
    "slow_calls",
    "stalls",
    "overload",
    "many_keys",
    "young_databases",
    "idle_keys",
    "neighbours",
    "streaming",
)
QUICK_SCENARIOS = ("throughput", "latency", "memory", "start")


def main() -> None:
    """Measure, print, write; exit with 1 if there were errors or the audit found something."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended as by Ctrl-C
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    allow_many_files()  # servers inherit it: a thousand connections are two thousand files
    with alone():
        began = time.monotonic()
        facts = report.machine()
        results: dict[str, Result] = {}
        for name in options.only or (QUICK_SCENARIOS if options.quick else SCENARIOS):
            print(f"{name.replace('_', ' ')} …", flush=True)
            results[name] = _measure(name, options)
        seconds = time.monotonic() - began
    path = report.write(results, facts, seconds)
    report.show(results)
    print(f"\n{facts['cpu']}, {facts['cores']} cores; {seconds:.0f} s; all figures: {path}")
    if any(result.failures for result in results.values()):
        sys.exit("FAILED: see above")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the main figures, in short rounds, without the peers")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="some of it; may be repeated")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, help="of load in a round  [default: 10, quick: 3]")
    parser.add_argument("--keys", type=int, default=20_000, help="of many_keys  [default: 20000]")
    options = parser.parse_args()
    options.seconds = options.seconds or (3 if options.quick else 10)
    return options


def _measure(name: str, options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as folder:
        bench = Bench(
            folder=Path(folder),
            rounds=options.rounds,
            seconds=options.seconds,
            quick=options.quick,
            with_peers=not (options.quick or options.without_peers),
            keys=options.keys,
        )
        result: Result = importlib.import_module(f"scenarios.{name}").measure(bench)
    return result


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait for the end of another run, which would falsify this one."""
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run is measuring; waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
