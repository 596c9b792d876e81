"""The most memory of a process in which each of 200,000 API keys is used once, and its memory a minute later.

The caller cache, the limiter and the counters of last use must not keep what nobody needs. Each key belongs to an
account of its own. It doesn't show whether the memory grows with the number of requests: see memory.
"""

import time

import servers
from bench import Bench, Result
from load import warm_up
from processes import most_resident_mib, resident_mib

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
                warm_up(bench.folder, tok0n, connections=CONNECTIONS, seconds=bench.seconds)
                time.sleep(IDLE_SECONDS)
                later_mib, most_mib = resident_mib(tok0n.pid), most_resident_mib(tok0n.pid)
            result.figures[name] = {"keys": keys, "idle_mib": idle_mib, "most_mib": most_mib, "later_mib": later_mib}
            value = f"{most_mib:.0f} MiB; {later_mib:.0f} MiB after {IDLE_SECONDS} s; {idle_mib:.0f} MiB before"
            result.add(f"{name}: memory after {keys:,} keys", value, f"≤ {MIB_MAX} MiB", reached=most_mib <= MIB_MAX)
    return result
