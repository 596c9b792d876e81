"""Create, rename and revoke the API keys of an account. The database never holds a key in plain text.

For 10 minutes it holds the key encrypted with the id of the form that created it, so a double click returns the key.
"""

import secrets

import msgspec

from tok0n.domain import api_key, ids
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.budgets import KeyBudget
from tok0n.domain.errors import AlreadySubmitted, InvalidRequest
from tok0n.domain.forms import NONCE_BYTES, Submission
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.accounts import Accounts, History
from tok0n.ports.clock import Clock
from tok0n.services.account_locks import AccountLocks
from tok0n.services.catalogue import Catalogue
from tok0n.services.checks import check_optional_count

KEYS_MAX = 100
"""The most active keys that an account can have."""

NAME_CHARACTERS_MAX = 100
DAYS_MAX = 36_500
KEY_BYTES = 32


class KeyDraft(msgspec.Struct, frozen=True, kw_only=True):
    """The name and limits of a key to create. None, or an empty tuple of models, sets no limit.

    The key expires after `days`, can spend `budget` tokens in total, and can call only `models`.
    """

    name: str
    days: int | None = None
    budget: int | None = None
    models: tuple[str, ...] = ()


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key and its `secret`, which the customer sends with each request.

    If it `is_repetition`, an earlier submission of the same form created the key; `secret` is then None after 10
    minutes.
    """

    key: ApiKey
    secret: str | None
    is_repetition: bool = False


class ApiKeys:
    """Manages API keys. Except for the operator's `revoke_any`, every method is restricted to one account."""

    def __init__(self, *, accounts: Accounts, history: History, catalogue: Catalogue, clock: Clock) -> None:
        self._accounts = accounts
        self._history = history
        self._catalogue = catalogue
        self._clock = clock
        self._creating = AccountLocks()

    async def of(self, account_id: str) -> list[ApiKey]:
        """Return the account's keys, oldest first."""
        return await self._accounts.list_keys(account_id)

    async def active(self, account_id: str) -> list[ApiKey]:
        """Return the account's keys that are neither revoked nor expired, oldest first."""
        now_us = self._clock.now_us()
        return [key for key in await self.of(account_id) if key.works(now_us)]

    async def get(self, *, account_id: str, key_id: str) -> ApiKey:
        """Return a key of the account. Raises `NotFound`."""
        return await self._history.key(account_id, key_id)

    async def create(
        self,
        account_id: str,
        draft: KeyDraft,
        *,
        submission: Submission | None = None,
        is_operator: bool = False,
    ) -> IssuedKey:
        """Create a key. A repeated `submission` returns the key that the first one created.

        The operator may allow models that are not listed yet. Raises `InvalidRequest`, `LimitReached` if the account
        has `KEYS_MAX` active keys, and `NotFound` if the account is closed or the settings declare no such model.
        """
        name = check_name(draft.name)
        limits = self._limits(draft, is_operator=is_operator)
        secret = api_key.make_api_key(secrets.token_bytes(KEY_BYTES))
        sealed = None if submission is None else submission.seal(secret, nonce=secrets.token_bytes(NONCE_BYTES))
        try:
            async with self._creating.of(account_id):
                key = await self._accounts.create_key(
                    account_id=account_id,
                    name=name,
                    digest=api_key.digest(secret),
                    prefix=api_key.shown_prefix(secret),
                    last_four=api_key.last_four(secret),
                    now_us=self._clock.now_us(),
                    limits=limits,
                    keys_max=KEYS_MAX,
                    submission=submission,
                    sealed=sealed,
                )
        except AlreadySubmitted as first:
            assert submission is not None
            key = await self.get(account_id=account_id, key_id=str(first.result))
            unsealed = None if first.sealed is None else submission.unseal(first.sealed)
            return IssuedKey(key=key, secret=unsealed, is_repetition=True)
        return IssuedKey(key=key, secret=secret)

    async def rename(self, *, account_id: str, key_id: str, name: str) -> None:
        """Rename a key. Raises `InvalidRequest` and `NotFound`."""
        await self._accounts.rename_key(account_id=account_id, key_id=key_id, name=check_name(name))

    async def revoke(self, *, account_id: str, key_id: str) -> ApiKey:
        """Revoke a key permanently. A second call keeps the time of the first. Raises `NotFound`."""
        return await self._accounts.revoke_key(account_id=account_id, key_id=key_id, now_us=self._clock.now_us())

    async def revoke_any(self, key_id: str) -> ApiKey:
        """Revoke a key of any account, for the operator. Raises `NotFound`."""
        key = await self._accounts.find_key(key_id)
        return await self.revoke(account_id=key.account_id, key_id=key.id)

    def _limits(self, draft: KeyDraft, *, is_operator: bool) -> KeyLimits:
        days = check_optional_count(draft.days, most=DAYS_MAX, param="days")
        budget = check_optional_count(draft.budget, most=TOKENS_MAX, param="budget")
        budgets = (
            ()
            if budget is None
            else (KeyBudget(id=ids.budget_id(secrets.token_bytes(ids.RANDOM_BYTES)), tokens=budget),)
        )
        for model in draft.models:
            if is_operator:
                self._catalogue.declared(model)
            elif self._catalogue.find(model) is None:
                raise InvalidRequest(f"The model {model} is no longer available. Choose again.", param="models")
        return KeyLimits(
            expires_at_us=None if days is None else self._clock.now_us() + days * MICROSECONDS_PER_DAY,
            budgets=budgets,
            models=tuple(dict.fromkeys(draft.models)) or None,
        )


def check_name(name: str) -> str:
    """Return a key's name without surrounding spaces. Raises `InvalidRequest`."""
    name = name.strip()
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidRequest(f"A key name must be 1 to {NAME_CHARACTERS_MAX} printable characters.", param="name")
    return name
