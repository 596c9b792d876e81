"""How requests ended over time."""

from collections.abc import Sequence
from typing import Protocol

from tok0n.domain.history import UseBy, UseFilter
from tok0n.domain.outcomes import ErrorCount, Latencies


class Outcomes(Protocol):
    """The latency and the errors of an account's requests, by the quarter hour in which each was created.

    If an account has many new requests, they count once the roll-up has them: see `counted_until_us`. `starts` are the
    quarter hours in which the intervals start. Each lasts until the next, and the last until the filter's end.
    """

    async def counted_until_us(self, account_id: str) -> int | None:
        """Return the time of the first request that may not count yet. None if all requests that have ended count."""

    async def latencies(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[Latencies]:
        """Return the latencies of each interval that has any, for each model or key, oldest first."""

    async def errors(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[ErrorCount]:
        """Return the errors of each interval that has any, for each model or key, oldest first."""


class OutcomeRollup(Protocol):
    """Counts the requests that have ended. Several processes may call it at the same time."""

    async def roll_up(self, *, now_us: int) -> bool:
        """Count the requests that were created in the next quarter hour, once all of them have ended.

        They count by account, key and model, and by model and day (`ports.ModelDays`). Returns False if there are
        none now.
        """
