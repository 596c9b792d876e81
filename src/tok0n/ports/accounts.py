"""Accounts, their API keys, and the history of an account."""

from collections.abc import Sequence
from typing import Protocol

from tok0n.domain.accounts import Account, ApiKey, Caller, KeyLimits
from tok0n.domain.forms import Submission
from tok0n.domain.history import (
    BucketOfUse,
    BudgetUse,
    DayOfUse,
    LedgerEntry,
    RequestFilter,
    RequestRecord,
    RequestSearch,
    UseBy,
    UseFilter,
    UseRow,
    UseTotals,
)
from tok0n.domain.key_edits import OPERATOR, Activity, KeyEdit
from tok0n.domain.ledger import STANDARD, Balance
from tok0n.domain.rejections import RejectedRequest

_NO_LIMITS = KeyLimits()


class Accounts(Protocol):
    """Accounts and their API keys."""

    async def create(self, *, email: str, tokens: int, now_us: int) -> Account:
        """Open an account, with a `grant` entry when `tokens` > 0. Raises `AlreadyExists`."""

    async def get(self, email: str) -> Account:
        """Return the account of an email address. Raises `NotFound`."""

    async def list_all(self) -> list[Account]:
        """Return all accounts, oldest first."""

    async def grant(self, *, email: str, tokens: int, reason: str, now_us: int, token_class: str = STANDARD) -> Account:
        """Append a `grant` entry of `tokens` > 0 to a wallet, and return the account after it. Raises `NotFound`."""

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
        note: str = "",
        keys_max: int | None = None,
        actor: str = OPERATOR,
        submission: Submission | None = None,
        sealed: bytes | None = None,
        is_enabled: bool = True,
    ) -> ApiKey:
        """Store a new key's digest, and the form submission that created it, in one transaction.

        `sealed` is the encrypted key, which a repeated submission can decrypt. Raises `NotFound` if no such account is
        open, `AccountSuspended`, `LimitReached` if it has `keys_max` active keys, and `AlreadySubmitted` with the id of
        the key that the first submission created.
        """

    async def list_keys(self, account_id: str) -> list[ApiKey]:
        """Return all keys of an account, oldest first."""

    async def edit_key(
        self,
        *,
        account_id: str,
        key_id: str,
        edit: KeyEdit,
        actor: str,
        now_us: int,
        time_zone: str,
        keys_max: int,
    ) -> ApiKey:
        """Apply an edit to a key of the account as it is now, and return the key. Writes only what changed.

        New budgets reset at midnight in `time_zone`. Raises `NotFound`, `InvalidRequest` if the key is revoked,
        `LimitReached` if the edit makes an expired key active beside `keys_max` others, and, unless `actor` is the
        operator, `AccountSuspended`.
        """

    async def rotate_key(
        self,
        *,
        account_id: str,
        key_id: str,
        digest: bytes,
        prefix: str,
        last_four: str,
        ends_at_us: int,
        secrets_max: int,
        actor: str,
        now_us: int,
        submission: Submission | None = None,
        sealed: bytes | None = None,
    ) -> ApiKey:
        """Store the digest of a second secret of a key, and end the others at `ends_at_us`. Returns the key.

        Raises as `edit_key` does, `LimitReached` if more than `secrets_max` secrets would work, and `AlreadySubmitted`
        with the id of the key.
        """

    async def find_key(self, key_id: str) -> ApiKey:
        """Return a key of any account, for the operator. Raises `NotFound`."""

    async def revoke_key(self, *, account_id: str, key_id: str, now_us: int, actor: str = OPERATOR) -> ApiKey:
        """Revoke a key of the account permanently. If it is revoked, keeps the first time. Raises `NotFound`."""


class History(Protocol):
    """Queries of an account's history. Every query selects one account, so no account can read another's."""

    async def balance(self, account_id: str, token_class: str = STANDARD) -> Balance:
        """Return the account's posted and pending tokens of one token class. Raises `NotFound`."""

    async def wallets(self, account_id: str) -> dict[str, Balance]:
        """Return the account's posted and pending tokens by token class. Raises `NotFound`."""

    async def budget_uses(self, account_id: str, api_key_id: str, *, now_us: int) -> list[BudgetUse]:
        """Return what a key has spent and reserved in the current period of each of its budgets. Raises `NotFound`."""

    async def all_budget_uses(self, account_id: str, *, now_us: int) -> dict[str, list[BudgetUse]]:
        """Return the use of the budgets of every key that is not revoked, by key id. Omits keys without budgets."""

    async def activity(self, account_id: str, *, before: int | None, rows_max: int) -> list[Activity]:
        """Return the newest `rows_max` changes whose id is less than `before`, newest first."""

    async def key(self, account_id: str, api_key_id: str) -> ApiKey:
        """Return a key of the account. Raises `NotFound`."""

    async def caller(self, account_id: str, api_key_id: str) -> Caller | None:
        """Return the caller of a key. None if the account has no such key, or the key is revoked or its account closed.

        The caller may have expired.
        """

    async def request(self, account_id: str, request_id: str) -> RequestRecord:
        """Return a request of the account. Raises `NotFound`."""

    async def reversal(self, account_id: str, request_id: str) -> LedgerEntry | None:
        """Return the entry that gave the charge of a request back, or None."""

    async def requests(
        self, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[RequestRecord]:
        """Return at most `rows_max` requests with ids below `before`, newest first."""

    async def search_requests(
        self, account_id: str, filters: RequestFilter, *, search_before: str | None, before: str | None, rows_max: int
    ) -> RequestSearch:
        """Search a limited number of requests: the newest with ids below `search_before`. The filter `is_measured`.

        The result has at most `rows_max` rows. Their ids are also below `before`, which selects a page of the search.
        """

    async def request_totals(self, account_id: str, filters: RequestFilter) -> UseTotals:
        """Return the totals of the billed requests that match: exactly those that `requests` returns."""

    async def rejected_request(self, account_id: str, request_id: str) -> RejectedRequest:
        """Return a rejected request of the account. Raises `NotFound`."""

    async def rejected_requests(
        self, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[RejectedRequest]:
        """Return at most `rows_max` rejected requests with ids below `before`, newest first."""

    async def count_not_stored(self, account_id: str, filters: RequestFilter) -> int:
        """Return how many rejected requests of the quarter hours of a period were counted but not stored."""

    async def daily_use(self, account_id: str, *, by: UseBy | None, first_day: int, until_day: int) -> list[DayOfUse]:
        """Return the use of each UTC day, oldest first, by model or key. Days count from the Unix epoch."""

    async def buckets(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[BucketOfUse]:
        """Return the use of each bucket by model or key, oldest first, until the end of `filters`.

        `starts` are the quarter hours in which the buckets start. Each one lasts until the next.
        """

    async def use_rows(self, account_id: str, filters: UseFilter, *, starts: Sequence[int]) -> list[UseRow]:
        """Return the use of each bucket by model and key, oldest first. The arguments are those of `buckets`."""

    async def totals(self, account_id: str, filters: UseFilter) -> UseTotals:
        """Return the totals of the charged requests."""

    async def bucket_totals(self, account_id: str, filters: UseFilter, *, starts: Sequence[int]) -> list[UseTotals]:
        """Return the totals of each bucket, with or without use. The arguments are those of `buckets`."""

    async def models_used(self, account_id: str) -> list[str]:
        """Return the ids of all models that the account was charged for, sorted."""


class Statements(Protocol):
    """The ledger entries of accounts."""

    async def entries(
        self,
        account_id: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        before: str | None = None,
        rows_max: int,
        token_class: str | None = None,
    ) -> list[LedgerEntry]:
        """Return at most `rows_max` ledger entries, newest first.

        Only those from `since_us` (inclusive) to `until_us` (exclusive), that precede the entry `before`, and that
        belong to the wallet of `token_class`. Returns none if the account has no entry `before`.
        """

    async def balances_at(self, account_id: str, at_us: int) -> dict[str, int]:
        """Return the posted tokens of each wallet of the account right before a time."""

    async def first_entry_at_us(self, account_id: str) -> int | None:
        """Return the time of the account's first entry, or None if it has none."""


class DailyUse(Protocol):
    """Adds up the use of past days, so that queries of long periods read few rows."""

    async def roll_up(self, *, now_us: int, accounts_max: int) -> bool:
        """Add up the next past day of at most `accounts_max` accounts. Returns whether there may be more to add."""
