"""The stored state of models."""

from typing import Protocol

from tok0n.domain.catalogue import ModelState, Verification


class Models(Protocol):
    """The stored state of models: whether the operator enabled them, and their verifications."""

    async def states(self) -> dict[str, ModelState]:
        """Return every stored state, by model id."""

    async def set_enabled(self, *, model: str, enabled: bool) -> ModelState:
        """Enable or disable a model, and return its new state."""

    async def claim_verification(self, *, model: str, request_id: str, now_us: int, exclusive_us: int) -> bool:
        """Store that the operator is about to send a request, which `Ledger.recent` then returns for a minute.

        Returns False and stores nothing if the operator sent a request to this model less than `exclusive_us` ago.
        """

    async def record(self, verification: Verification) -> ModelState:
        """Store a verification and the state after it (`ModelState.after`). Returns the state."""
