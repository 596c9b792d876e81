"""Limits attempts. An attempt counts before it is evaluated, and a success takes back its own count.

Whatever guards a second factor, a code, a confirmation password or a passkey counts in the database
(`count_attempt`). `AttemptLimiter` counts in the memory of one process, and a restart clears it.
"""

from collections import OrderedDict
from collections.abc import Hashable

from tok0n.domain.attempts import LIMITS, AttemptKind, Counted, TooMany, subject_digest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.services.passwords import too_many

SUBJECTS_MAX = 50_000
"""How many subjects one limiter remembers. Beyond that it forgets the one that was counted longest ago."""


class AttemptLimiter:
    """At most `attempts_max` attempts of one subject in any `seconds`.

    Its methods are synchronous: no other attempt can come between the check and the count.
    """

    def __init__(self, clock: Clock, *, attempts_max: int, seconds: float, subjects_max: int = SUBJECTS_MAX) -> None:
        self._clock = clock
        self._attempts_max = attempts_max
        self._seconds = seconds
        self._subjects_max = subjects_max
        self._times: OrderedDict[Hashable, list[float]] = OrderedDict()

    def try_count(self, subject: Hashable) -> float:
        """Count an attempt and return 0, or return the seconds until one is allowed."""
        now = self._clock.monotonic()
        times = [at for at in self._times.get(subject, ()) if at > now - self._seconds]
        if len(times) >= self._attempts_max:
            return times[-self._attempts_max] + self._seconds - now
        self._times[subject] = [*times, now]
        self._times.move_to_end(subject)
        if len(self._times) > self._subjects_max:
            self._times.popitem(last=False)
        return 0.0

    def take_back(self, subject: Hashable) -> None:
        """Uncount one attempt of the subject, because it succeeded."""
        times = self._times.get(subject)
        if times:
            times.pop()
        if not times:
            self._times.pop(subject, None)


async def count_attempt(attempts: Attempts, clock: Clock, kind: AttemptKind, subject: str, *, field: str) -> Counted:
    """Count an attempt in the database before it is evaluated. Raises `FormError` when it must not be evaluated."""
    outcome = await attempts.try_count(kind, subject_digest(subject), limit=LIMITS[kind], now_us=clock.now_us())
    if isinstance(outcome, TooMany):
        raise too_many(outcome.wait_us / 1_000_000, field=field)
    return outcome
