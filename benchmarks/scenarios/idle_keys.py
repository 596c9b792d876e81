"""The memory of a process after each of 200,000 API keys was used once, and a minute later, when they are idle.

The caller cache, the limiter and the counters of last use must not keep what nobody needs. Each key belongs to an
account of its own. It doesn't show whether the memory grows with the number of requests: see memory.
"""

import time

import servers
from bench import Bench, Result
from load import wrk
from processes import most_resident_mib, resident_mib
from servers import Server

from scenarios.many_keys import CONNECTIONS, ENGINES

KEYS = 200_000
KEYS_QUICK = 10_000
IDLE_SECONDS = 75
MIB_MAX = 200


def measure(bench: Bench) -> Result:
    """One engine after the other."""
    result = Result()
    keys = KEYS_QUICK if bench.quick else KEYS
    with servers.upstream(bench.folder):
        for name, start in ENGINES.items():
            bench.say(f"{name}: writing {keys:,} accounts")
            with start(bench.folder / name, keys=keys) as tok0n:
                idle_mib = resident_mib(tok0n.pid)
                _use_each_key(bench, result, tok0n)
                time.sleep(IDLE_SECONDS)
                later_mib, most_mib = resident_mib(tok0n.pid), most_resident_mib(tok0n.pid)
            result.figures[name] = {"keys": keys, "idle_mib": idle_mib, "most_mib": most_mib, "later_mib": later_mib}
            value = f"{most_mib:.0f} MiB; {later_mib:.0f} MiB after {IDLE_SECONDS} s; {idle_mib:.0f} MiB before"
            result.add(f"{name}: memory after {keys:,} keys", value, f"≤ {MIB_MAX} MiB", reached=most_mib <= MIB_MAX)
    return result


def _use_each_key(bench: Bench, result: Result, tok0n: Server) -> None:
    """Send a request with each key."""
    assert tok0n.keys_path is not None
    keys = tok0n.keys_path.read_text("utf-8").split()
    unused = bench.folder / "unused-keys.txt"
    while keys:
        unused.write_text("\n".join(keys) + "\n")
        server = tok0n._replace(keys_path=unused)
        load = wrk(bench.folder, server, seconds=bench.seconds, connections=CONNECTIONS, in_order=True)
        if not load.requests:
            raise RuntimeError("no request was answered")
        if load.errors:
            result.failures.append(f"{load.errors} errors")
        keys = keys[load.requests :]
        bench.say(f"{len(keys):,} keys left: {resident_mib(tok0n.pid):.0f} MiB")
