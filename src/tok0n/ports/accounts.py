"""Accounts, their API keys, and the history of an account."""

from collections.abc import Mapping
from typing import Protocol

from tok0n.domain.accounts import Account, ApiKey, Caller, KeyLimits
from tok0n.domain.forms import Submission
from tok0n.domain.history import HourOfUse, LedgerEntry, RequestFilter, RequestRecord, UseBy, UseFilter, UseTotals
from tok0n.domain.ledger import Balance

_NO_LIMITS = KeyLimits()


class Accounts(Protocol):
    """Accounts and their API keys."""

    async def create(self, *, email: str, tokens: int, now_us: int) -> Account:
        """Open an account, with a `grant` entry when `tokens` > 0. Raises `AlreadyExists`."""

    async def get(self, email: str) -> Account:
        """The account of this e-mail. Raises `NotFound`."""

    async def list_all(self) -> list[Account]:
        """All accounts, oldest first."""

    async def grant(self, *, email: str, tokens: int, reason: str, now_us: int) -> Account:
        """Append a `grant` entry of `tokens` > 0. Raises `NotFound`."""

    async def create_key(
        self,
        *,
        account_id: str,
        name: str,
        digest: bytes,
        prefix: str,
        last_four: str,
        now_us: int,
        limits: KeyLimits = _NO_LIMITS,
        keys_max: int | None = None,
        submission: Submission | None = None,
        sealed: bytes | None = None,
    ) -> ApiKey:
        """Store a new key by its digest, with the submitted form that created it, in one transaction.

        Raises `NotFound` without such an open account, `LimitReached` when the account has `keys_max` active keys, and
        `AlreadySubmitted` with the id of the first submission's key.
        """

    async def list_keys(self, account_id: str) -> list[ApiKey]:
        """All keys of an account, oldest first."""

    async def rename_key(self, *, account_id: str, key_id: str, name: str) -> None:
        """Give a key of the account another name. Raises `NotFound`."""

    async def find_key(self, key_id: str) -> ApiKey:
        """Return a key of any account, for the operator. Raises `NotFound`."""

    async def revoke_key(self, *, account_id: str, key_id: str, now_us: int) -> ApiKey:
        """Revoke a key of the account for good. A second call keeps the time of the first. Raises `NotFound`."""

    async def keys_used(self, used_at_us: Mapping[str, int]) -> None:
        """Remember when keys were last used, by their ids."""

    async def find_caller(self, digest: bytes, *, now_us: int) -> Caller | None:
        """The caller of an active key of an open account, looked up by the whole digest."""


class History(Protocol):
    """What an account can look back on. Every query names the account: nobody reads another's."""

    async def balance(self, account_id: str) -> Balance:
        """What the account owns and has reserved. Raises `NotFound`."""

    async def key(self, account_id: str, api_key_id: str) -> ApiKey:
        """One key of the account. Raises `NotFound`."""

    async def key_spent(self, account_id: str) -> dict[str, int]:
        """What each key of the account was charged in all; keys that were not are not in it."""

    async def request(self, account_id: str, request_id: str) -> RequestRecord:
        """One request. Raises `NotFound`."""

    async def requests(
        self, account_id: str, filter_by: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[RequestRecord]:
        """At most `rows_max` requests, newest first, from before the id `before`."""

    async def hours(self, account_id: str, filter_by: UseFilter, *, by: UseBy) -> list[HourOfUse]:
        """The use of each hour by model or by key, oldest first."""

    async def totals(self, account_id: str, filter_by: UseFilter) -> UseTotals:
        """The sums of what was charged."""

    async def models_used(self, account_id: str) -> list[str]:
        """The models that the account was ever charged for, in the order of their names."""

    async def entries(self, account_id: str, *, before: int | None, rows_max: int) -> list[LedgerEntry]:
        """At most `rows_max` ledger entries, newest first, from before the entry `before`."""
