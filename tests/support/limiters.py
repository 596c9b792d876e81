"""Every limiter that the contract suite runs against."""

from tok0n.adapters.memory.limiter import Limits, MemoryLimiter
from tok0n.ports import Clock

KINDS = ["memory"]


def make_limiter(kind: str, clock: Clock, *, key: int = 60, user: int = 10, upstream: int = 55) -> MemoryLimiter:
    assert kind == "memory"
    return MemoryLimiter(
        Limits(
            requests_per_minute_per_key=key,
            concurrent_requests_per_user=user,
            upstream_requests_per_minute=upstream,
        ),
        clock,
    )
