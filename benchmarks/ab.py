"""Compare the CPU that a request costs in this checkout with another commit's.

    make bench-ab BASE=d59035a
    make bench-ab BASE=d59035a ARGS="--max 1.03"      fail when the upper end of the interval is over 1.03
    make bench-ab BASE=d59035a ARGS="--keys 20000"    with a random one of 20,000 API keys in each request

Both gateways run at once on one core, each from its own .venv, on SQLite with default durability, in front of an nginx
that answers at once. They are loaded for a second each in the order base, checkout, checkout, base, twice, which
spreads any disturbance over both. A pair is the sum of three such rounds, each with new processes: a process is up to 5
% faster or slower for as long as it lives, because of where its memory lies. The ratio is the mean over ten pairs of
the logarithm of checkout / base, with Student's 95 % interval. Other programs widen the interval; they do not move it.
"""

import argparse
import contextlib
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import servers
from load import answers, warm_up, wrk
from processes import LOAD_CORE
from run import alone
from servers import Server

from tok0n.bootstrap.open_files import allow_many_files

ROOT = Path(__file__).parent.parent
PAIRS = 10
T_975 = 2.262
"""Student's t for nine degrees of freedom."""

CONNECTIONS = 64
ROUNDS = 3
"""How often a pair starts new servers."""

WARM_UP_SECONDS = 1
PORTS = {"base": servers.GATEWAY_PORT, "checkout": servers.SECOND_GATEWAY_PORT}
ORDER = ("base", "checkout", "checkout", "base")


class Interval(NamedTuple):
    """A ratio and the ends of its 95 % interval."""

    ratio: float
    low: float
    high: float


def main() -> None:
    """Measure and print; exit with 1 when there were errors or the interval ends over --max."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended as by Ctrl-C
    with tempfile.TemporaryDirectory(prefix="tok0n-ab-") as name, _checked_out(options.base, Path(name)) as base:
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        allow_many_files()
        with alone():
            began = time.monotonic()
            spent = _measure(Path(name), base, seconds=options.seconds, keys=options.keys)
    interval = compare(spent["base"], spent["checkout"])
    for side, title in (("base", options.base), ("checkout", "this checkout")):
        print(f"CPU seconds per 1,000 requests, {title}: {statistics.mean(spent[side]):.4f}")
    print(
        f"this checkout / {options.base}: {interval.ratio:.3f}, 95 % interval {interval.low:.3f} to {interval.high:.3f}"
        f" ({PAIRS} pairs in {time.monotonic() - began:.0f} s)"
    )
    if options.max is not None and interval.high > options.max:
        sys.exit(f"FAILED: the interval ends over {options.max:g}")


def compare(base: list[float], checkout: list[float]) -> Interval:
    """The geometric mean of the pairs' ratios, and its 95 % interval."""
    logs = [math.log(one / other) for one, other in zip(checkout, base, strict=True)]
    mean = statistics.mean(logs)
    half = T_975 * statistics.stdev(logs) / math.sqrt(len(logs))
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-ab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--max", type=float, help="fail when the interval's upper end is over this")
    parser.add_argument("--seconds", type=int, default=2, help="of load on each in half a round  [default: 2]")
    parser.add_argument("--keys", type=int, default=0, help="use so many API keys, of an account each")
    options = parser.parse_args()
    if not options.base:
        parser.error("name a commit: make bench-ab BASE=COMMIT")
    return options


@contextlib.contextmanager
def _checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """The commit in a worktree with a .venv of its own; gives its folder."""
    tree = folder / "base"
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode:
        sys.exit(f"{commit} is no commit of this repository")
    sha = found.stdout.decode().strip()
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), sha], cwd=ROOT, check=True)
    try:
        own_uv = {"PATH": f"{os.environ['PATH']}:{ROOT / '.uv' / 'bin'}"}  # so that it needn't be downloaded again
        subprocess.run([str(tree / "scripts" / "setup.sh"), "run"], env=os.environ | own_uv, check=True)
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


def _measure(folder: Path, base: Path, *, seconds: int, keys: int) -> dict[str, list[float]]:
    """CPU seconds per 1,000 requests of both, one figure for each pair."""
    trees = {"base": base, "checkout": ROOT}
    spent: dict[str, list[float]] = {side: [] for side in trees}
    prepared: dict[str, Server] = {}
    for side, tree in trees.items():
        ready = servers.prepare(folder / f"{side}-data", port=PORTS[side], python=_python(tree), keys=keys)
        prepared[side] = ready._replace(name=side)
    with servers.upstream(folder):
        for number in range(PAIRS):
            pair = _pair(folder, trees, prepared, seconds=seconds)
            for side, figure in pair.items():
                spent[side].append(figure)
            print(
                f"pair {number + 1}: base {pair['base']:.4f}, checkout {pair['checkout']:.4f},"
                f" ratio {pair['checkout'] / pair['base']:.3f}",
                flush=True,
            )
    return spent


def _python(tree: Path) -> str:
    return str(tree / ".venv" / "bin" / "python")


def _pair(folder: Path, trees: dict[str, Path], prepared: dict[str, Server], *, seconds: int) -> dict[str, float]:
    """CPU seconds per 1,000 requests of both."""
    cpu, requests = dict.fromkeys(trees, 0.0), dict.fromkeys(trees, 0)
    for _ in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            running = {
                side: ready._replace(parts={"gateway": (stack.enter_context(_serving(ready, trees[side])),)})
                for side, ready in prepared.items()
            }
            for side, server in running.items():
                if not answers(server):
                    sys.exit(f"{side} gave no completion")
                warm_up(folder, server, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
            for side in ORDER * seconds:
                load = wrk(folder, running[side], seconds=1, connections=CONNECTIONS)
                if load.errors:
                    sys.exit(f"{side}: {load.errors} errors")
                cpu[side] += load.cpu["gateway"]
                requests[side] += load.requests
    return {side: 1000 * cpu[side] / requests[side] for side in trees}


def _serving(prepared: Server, tree: Path) -> contextlib.AbstractContextManager[int]:
    return servers.serving(prepared, python=_python(tree))


if __name__ == "__main__":
    main()
