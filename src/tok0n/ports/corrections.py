"""Corrections by the operator: adjusted balances, suspended accounts, and classes that the settings dropped."""

from collections.abc import Collection
from typing import Protocol

from tok0n.domain.accounts import Account
from tok0n.domain.token_classes import RetiredClass


class Corrections(Protocol):
    """Changes of accounts that only the operator makes. `author` and `actor` are who makes them."""

    async def adjust(
        self, *, email: str, tokens: int, token_class: str, reason: str, author: str, now_us: int
    ) -> Account:
        """Append an `adjustment` entry of `tokens`, which is not 0, and return the account after it.

        Raises `NotFound`, or `OperatorError` if the wallet has less than -`tokens` available.
        """

    async def set_suspended(self, *, email: str, suspended: bool, reason: str, actor: str, now_us: int) -> Account:
        """Suspend an open account, or reopen a suspended one, and record it in the activity of the account.

        Requests that are reserved settle. Raises `NotFound`, or `OperatorError` if the account is closed or has that
        status already.
        """

    async def retired_classes(self, declared: Collection[str]) -> list[RetiredClass]:
        """Return the token classes that are not `declared` in which accounts that aren't closed own tokens, by id."""
