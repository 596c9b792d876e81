"""The daily results of models."""

from typing import Protocol

from tok0n.domain.model_days import ModelDay


class ModelDays(Protocol):
    """The results of models on each day: requests of all accounts, and verifications."""

    async def days(self, *, first_day: int) -> list[ModelDay]:
        """Return the results since a UTC day, oldest first. Days without any are missing."""

    async def delete_old(self, *, now_us: int) -> None:
        """Delete results that are older than `domain.model_days.DAYS_KEPT` days."""
