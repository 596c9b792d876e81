"""Alert the operator to payments that need manual review, without flooding the log."""

from collections import OrderedDict, deque

import structlog

from tok0n.ports.clock import Clock

log = structlog.get_logger()

ALARMS_MAX = 10
ALARMS_SECONDS = 60.0
REMEMBERED_MAX = 1_000


class Alarms:
    """Logs each distinct alarm once per process, and at most `ALARMS_MAX` in any `ALARMS_SECONDS`.

    `suppressed` on the next line counts the alarms beyond that rate. Only the latest `REMEMBERED_MAX` distinct alarms
    are remembered, so an older one can be logged again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._raised_at: deque[float] = deque()
        self._suppressed = 0
        self._logged: OrderedDict[str, None] = OrderedDict()

    def raise_alarm(self, **facts: object) -> None:
        """Log a `payment_alarm` line with these facts. The inbox keeps the event of a suppressed alarm."""
        alarm = repr(sorted(facts.items()))
        if alarm in self._logged:
            return
        self._logged[alarm] = None
        if len(self._logged) > REMEMBERED_MAX:
            self._logged.popitem(last=False)
        now = self._clock.monotonic()
        while self._raised_at and self._raised_at[0] <= now - ALARMS_SECONDS:
            self._raised_at.popleft()
        if len(self._raised_at) >= ALARMS_MAX:
            self._suppressed += 1
            return
        self._raised_at.append(now)
        if self._suppressed:
            facts["suppressed"] = self._suppressed
            self._suppressed = 0
        log.error("payment_alarm", **facts)
