"""Submitted forms and counted attempts."""

from typing import Protocol

from tok0n.domain.attempts import AttemptKind, AttemptLimit, Counted, TooMany
from tok0n.domain.forms import Submission


class Forms(Protocol):
    """Submitted forms, for 24 hours: a second submission of the same form creates and changes nothing."""

    async def claim(self, submission: Submission, *, result: str | None, now_us: int) -> None:
        """Remember the first submission, before it does anything. Raises `AlreadySubmitted`.

        Without a `result` it is in progress until `finish` or `withdraw`.
        """

    async def finish(self, submission: Submission, *, result: str, sealed: bytes | None) -> None:
        """Remember what a claimed submission led to."""

    async def withdraw(self, submission: Submission) -> None:
        """Forget a claimed submission that failed: the same form may be submitted again."""

    async def check(self, submission: Submission, *, now_us: int) -> None:
        """Raises `AlreadySubmitted` for a submission that is remembered."""

    async def forget_old(self, *, now_us: int) -> None:
        """Remove secrets after 10 minutes, and submissions after 24 hours."""


class Attempts(Protocol):
    """Counted attempts to prove something, shared by all processes. Subjects come in as digests."""

    async def try_count(
        self, kind: AttemptKind, subject: bytes, *, limit: AttemptLimit, now_us: int
    ) -> Counted | TooMany:
        """Count one attempt unless the limit is reached, atomically."""

    async def take_back(self, counted: Counted) -> None:
        """Uncount an attempt that succeeded. Does nothing if the count has started again since."""

    async def forget_expired(self, *, now_us: int, rows_max: int) -> int:
        """Remove at most `rows_max` counts that no longer matter; gives how many."""
