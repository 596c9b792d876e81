"""Email, and the notices that account owners asked for."""

from typing import Protocol

from tok0n.domain.accounts import KeyLimits
from tok0n.domain.users import LowBalance

_NO_LIMITS = KeyLimits()


class Mailer(Protocol):
    """Sends mail."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Send one message, now or soon. A failure is the operator's to see in the log: whoever asked is not told."""


class Notices(Protocol):
    """What the owners of accounts want to be told of."""

    async def below(self, account_id: str) -> int | None:
        """The balance, in tokens, below which the owner is told."""

    async def set_below(self, account_id: str, below: int | None) -> None:
        """Tell the owner once each time the balance falls below `below`; None tells nothing."""

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """Accounts that fell below and whose owner is to be told now: each is given once for every crossing."""
