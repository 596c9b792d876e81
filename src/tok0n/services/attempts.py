"""Limit attempts. Each attempt is counted before it is evaluated, and a success removes its own count.

`count_attempt` counts attempts at two-factor codes, redeem codes, confirmation passwords and passkeys in the database.
`AttemptLimiter` counts in the memory of one process, so a restart clears it.
"""

from collections import OrderedDict
from collections.abc import Hashable

from tok0n.domain.attempts import LIMITS, AttemptKind, CountedAttempt, TooMany, subject_digest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.services.passwords import too_many_attempts

SUBJECTS_MAX = 50_000
"""How many subjects one limiter tracks. Beyond this it drops the least recently counted subject."""


class AttemptLimiter:
    """Allows at most `attempts_max` attempts per subject in any `seconds`.

    Its methods are synchronous, so no other attempt can run between the check and the count.
    """

    def __init__(self, clock: Clock, *, attempts_max: int, seconds: float, subjects_max: int = SUBJECTS_MAX) -> None:
        self._clock = clock
        self._attempts_max = attempts_max
        self._seconds = seconds
        self._subjects_max = subjects_max
        self._times: OrderedDict[Hashable, list[float]] = OrderedDict()

    def count_attempt(self, subject: Hashable) -> float:
        """Count an attempt and return 0, or count none and return the seconds until one is allowed."""
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
        """Remove the latest attempt of the subject from the count, because it succeeded."""
        times = self._times.get(subject)
        if times:
            times.pop()
        if not times:
            self._times.pop(subject, None)


async def count_attempt(
    attempts: Attempts, clock: Clock, kind: AttemptKind, subject: str, *, field: str
) -> CountedAttempt:
    """Count an attempt in the database. Raises `FormError` if it exceeds the limit of its kind."""
    outcome = await attempts.count_attempt(kind, subject_digest(subject), limit=LIMITS[kind], now_us=clock.now_us())
    if isinstance(outcome, TooMany):
        raise too_many_attempts(outcome.wait_us / 1_000_000, field=field)
    return outcome
