"""Submitted forms and counted attempts."""

from typing import Protocol

from tok0n.domain.attempts import AttemptKind, AttemptLimit, CountedAttempt, TooMany
from tok0n.domain.forms import Submission


class Forms(Protocol):
    """The form submissions of the last 24 hours, which detect repeated submissions of the same form."""

    async def claim(self, submission: Submission, *, result: str | None, now_us: int) -> None:
        """Store a submission before it is processed. Raises `AlreadySubmitted` if it is stored.

        Without a `result`, the submission is in progress until `finish` or `withdraw`.
        """

    async def finish(self, submission: Submission, *, result: str, sealed: bytes | None) -> None:
        """Store the result of a claimed submission."""

    async def withdraw(self, submission: Submission) -> None:
        """Remove a claimed submission that failed, so that the form can be submitted again."""

    async def check(self, submission: Submission, *, now_us: int) -> None:
        """Raise `AlreadySubmitted` if the submission is stored."""

    async def delete_old(self, *, now_us: int) -> None:
        """Remove secrets older than 10 minutes, and submissions older than 24 hours."""


class Attempts(Protocol):
    """Counts of attempts to guess a password or code, shared by all processes. Subjects are digests."""

    async def count_attempt(
        self, kind: AttemptKind, subject: bytes, *, limit: AttemptLimit, now_us: int
    ) -> CountedAttempt | TooMany:
        """Count one attempt unless the limit is reached, atomically."""

    async def take_back(self, counted: CountedAttempt) -> None:
        """Stop counting an attempt that succeeded. Does nothing if the count has restarted."""

    async def delete_expired(self, *, now_us: int, rows_max: int) -> int:
        """Remove at most `rows_max` expired counts. Returns how many."""
