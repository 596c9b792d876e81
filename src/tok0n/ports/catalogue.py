"""What the database stores about models."""

from typing import Protocol

from tok0n.domain.catalogue import ModelState, Verification


class Models(Protocol):
    """What the database remembers of the catalogue."""

    async def states(self) -> dict[str, ModelState]:
        """The state of every model ever seen, by id."""

    async def set_enabled(self, *, model: str, enabled: bool) -> ModelState:
        """Enable or disable a model."""

    async def claim_verification(self, *, model: str, request_id: str, now_us: int, exclusive_us: int) -> bool:
        """Remember that the operator is about to send a request: it counts in `Ledger.recent` for a minute.

        False, and nothing is remembered, when one was sent to this model less than `exclusive_us` ago.
        """

    async def record(self, verification: Verification) -> ModelState:
        """Remember a verification, and what follows from it (`ModelState.after`)."""
