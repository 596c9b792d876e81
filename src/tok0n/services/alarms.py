"""Alert the operator to payments that need a person to look at them, without flooding the log."""

from collections import OrderedDict, deque

import structlog

from tok0n.ports.clock import Clock

log = structlog.get_logger()

ALARMS_MAX = 10
ALARMS_SECONDS = 60.0


REMEMBERED_MAX = 1_000


class Alarms:
    """Writes each alarm once, and at most `ALARMS_MAX` in any `ALARMS_SECONDS`; the next says how many were left out.

    The latest `REMEMBERED_MAX` alarms are known, to each process its own.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._raised: deque[float] = deque()
        self._suppressed = 0
        self._known: OrderedDict[str, None] = OrderedDict()

    def raise_alarm(self, **facts: object) -> None:
        """Write a `payment_alarm` line with these facts. The inbox keeps the facts of one that is left out."""
        known = repr(sorted(facts.items()))
        if known in self._known:
            return
        self._known[known] = None
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        now = self._clock.monotonic()
        while self._raised and self._raised[0] <= now - ALARMS_SECONDS:
            self._raised.popleft()
        if len(self._raised) >= ALARMS_MAX:
            self._suppressed += 1
            return
        self._raised.append(now)
        if self._suppressed:
            facts["suppressed"] = self._suppressed
            self._suppressed = 0
        log.error("payment_alarm", **facts)
