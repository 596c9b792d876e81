"""Count what somebody tries, over a while, and say when it was too much. In memory: a restart forgives."""

from collections import OrderedDict
from collections.abc import Hashable

from tok0n.ports import Clock

REMEMBERED_MAX = 50_000


class Throttle:
    """At most `times` counts of one subject in any `seconds`."""

    def __init__(self, clock: Clock, *, times: int, seconds: float) -> None:
        self._clock = clock
        self._times = times
        self._seconds = seconds
        self._counted: OrderedDict[Hashable, list[float]] = OrderedDict()

    def seconds_left(self, subject: Hashable) -> float:
        """How long this subject has to wait; 0 when it may try."""
        recent = self._recent(subject)
        return 0.0 if len(recent) < self._times else recent[-self._times] + self._seconds - self._clock.monotonic()

    def count(self, subject: Hashable) -> None:
        """Count one try."""
        self._counted[subject] = [*self._recent(subject), self._clock.monotonic()]
        self._counted.move_to_end(subject)
        if len(self._counted) > REMEMBERED_MAX:
            self._counted.popitem(last=False)

    def forget(self, subject: Hashable) -> None:
        """Begin anew with this subject."""
        self._counted.pop(subject, None)

    def _recent(self, subject: Hashable) -> list[float]:
        since = self._clock.monotonic() - self._seconds
        return [at for at in self._counted.get(subject, ()) if at > since]
