"""Create, edit, rotate and revoke the API keys of an account. The database never holds a secret in plain text.

For 10 minutes it holds a new secret encrypted with the id of the form that created it, so a double click returns it.
"""

import secrets
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import UNSET

from tok0n.domain import api_key, ids
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.budgets import BudgetDraft
from tok0n.domain.errors import AlreadySubmitted, InvalidRequest
from tok0n.domain.forms import NONCE_BYTES, Submission
from tok0n.domain.key_edits import OPERATOR, KeyEdit, merge_budgets
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.users import UTC
from tok0n.ports.accounts import Accounts, History
from tok0n.ports.clock import Clock
from tok0n.services import key_rules
from tok0n.services.account_locks import AccountLocks
from tok0n.services.catalogue import Catalogue
from tok0n.services.checks import check_optional_count

KEYS_MAX = 100
"""The most active keys that an account can have."""

SECRETS_MAX = 4
"""The most secrets of a key that work at the same time."""

REQUESTS_PER_MINUTE_MAX = 10**9
"""The most requests per minute of a key if the installation has no lower limit."""

DAYS_MAX = 36_500
KEY_BYTES = 32


NO_OTHER_CLASSES = TokenClasses()


class KeyDraft(msgspec.Struct, frozen=True, kw_only=True):
    """The name and limits of a key to create. None, or an empty tuple, sets no limit.

    The key expires after `days`. `networks` are IP addresses and networks.
    """

    name: str
    days: int | None = None
    budgets: tuple[BudgetDraft, ...] = ()
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    note: str = ""
    is_enabled: bool = True


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key and its newest `secret`, which the customer sends with each request.

    If it `is_repetition`, an earlier submission of the same form created the secret; `secret` is then None after 10
    minutes.
    """

    key: ApiKey
    secret: str | None
    is_repetition: bool = False


class ApiKeys:
    """Manages API keys. Except for the operator's, every method is restricted to one account.

    `actor` is who makes a change: a user's email address, or `OPERATOR`. `requests_per_minute_max` is the
    installation's limit for each key.
    """

    def __init__(
        self,
        *,
        accounts: Accounts,
        history: History,
        catalogue: Catalogue,
        clock: Clock,
        token_classes: TokenClasses = NO_OTHER_CLASSES,
        requests_per_minute_max: int = REQUESTS_PER_MINUTE_MAX,
    ) -> None:
        self._token_classes = token_classes
        self._accounts = accounts
        self._history = history
        self._catalogue = catalogue
        self._clock = clock
        self.requests_per_minute_max = requests_per_minute_max
        self._locks = AccountLocks()

    @property
    def token_classes(self) -> list[str]:
        """The ids of the token classes that a budget can count."""
        return self._token_classes.ids

    async def list_for_account(self, account_id: str) -> list[ApiKey]:
        """Return the account's keys, oldest first."""
        return await self._accounts.list_keys(account_id)

    async def active(self, account_id: str) -> list[ApiKey]:
        """Return the account's keys that are neither revoked nor disabled nor expired, oldest first."""
        now_us = self._clock.now_us()
        return [key for key in await self.list_for_account(account_id) if key.is_active(now_us)]

    async def get(self, *, account_id: str, key_id: str) -> ApiKey:
        """Return a key of the account. Raises `NotFound`."""
        return await self._history.key(account_id, key_id)

    async def get_any(self, key_id: str) -> ApiKey:
        """Return a key of any account, for the operator. Raises `NotFound`."""
        return await self._accounts.find_key(key_id)

    async def create(
        self,
        account_id: str,
        draft: KeyDraft,
        *,
        submission: Submission | None = None,
        actor: str = OPERATOR,
        time_zone: str = UTC,
    ) -> IssuedKey:
        """Create a key, whose budgets reset at midnight in `time_zone`.

        A repeated `submission` returns the key that the first one created. The operator may allow models that are not
        listed yet. Raises `InvalidRequest`, `LimitReached` if the account has `KEYS_MAX` active keys,
        `AccountSuspended`, and `NotFound` if the account is closed or the settings declare no such model.
        """
        name, note = key_rules.check_name(draft.name), key_rules.check_note(draft.note)
        limits = self._limits(draft, is_operator=actor == OPERATOR, time_zone=time_zone)

        async def store(secret: str, sealed: bytes | None) -> ApiKey:
            return await self._accounts.create_key(
                account_id=account_id,
                name=name,
                note=note,
                digest=api_key.digest(secret),
                prefix=api_key.shown_prefix(secret),
                last_four=api_key.last_four(secret),
                now_us=self._clock.now_us(),
                limits=limits,
                keys_max=KEYS_MAX,
                actor=actor,
                submission=submission,
                sealed=sealed,
                is_enabled=draft.is_enabled,
            )

        return await self._issue(account_id, submission, store)

    async def edit(self, *, account_id: str, key_id: str, edit: KeyEdit, actor: str, time_zone: str = UTC) -> ApiKey:
        """Change the members of a key that `edit` names, and return the key.

        Its new budgets reset at midnight in `time_zone`, those that it keeps as before. Raises `InvalidRequest`,
        `NotFound`, `LimitReached` and `AccountSuspended`.
        """
        current = await self.get(account_id=account_id, key_id=key_id)
        checked = self._checked(edit, current, is_operator=actor == OPERATOR)
        async with self._locks.lock_for(account_id):
            return await self._accounts.edit_key(
                account_id=account_id,
                key_id=key_id,
                edit=checked,
                actor=actor,
                now_us=self._clock.now_us(),
                time_zone=time_zone,
                keys_max=KEYS_MAX,
            )

    async def rotate(
        self,
        *,
        account_id: str,
        key_id: str,
        overlap_days: int,
        actor: str,
        submission: Submission | None = None,
    ) -> IssuedKey:
        """Create a second secret for a key. The others end after `overlap_days`, at most `OVERLAP_DAYS_MAX`.

        A repeated `submission` returns the secret that the first one created. Raises `InvalidRequest`, `NotFound`,
        `LimitReached` and `AccountSuspended`.
        """
        overlap_us = key_rules.check_overlap(overlap_days) * MICROSECONDS_PER_DAY

        async def store(secret: str, sealed: bytes | None) -> ApiKey:
            now_us = self._clock.now_us()
            return await self._accounts.rotate_key(
                account_id=account_id,
                key_id=key_id,
                digest=api_key.digest(secret),
                prefix=api_key.shown_prefix(secret),
                last_four=api_key.last_four(secret),
                ends_at_us=now_us + overlap_us,
                secrets_max=SECRETS_MAX,
                actor=actor,
                now_us=now_us,
                submission=submission,
                sealed=sealed,
            )

        return await self._issue(account_id, submission, store)

    async def revoke(self, *, account_id: str, key_id: str, actor: str = OPERATOR) -> ApiKey:
        """Revoke a key permanently. A second call keeps the time of the first. Raises `NotFound`."""
        return await self._accounts.revoke_key(
            account_id=account_id, key_id=key_id, now_us=self._clock.now_us(), actor=actor
        )

    def expiry_after(self, days: int | None) -> int | None:
        """Return the time in `days`, or None without an expiry. Raises `InvalidRequest`."""
        days = check_optional_count(days, most=DAYS_MAX, param="days")
        return None if days is None else self._clock.now_us() + days * MICROSECONDS_PER_DAY

    async def _issue(
        self,
        account_id: str,
        submission: Submission | None,
        store: Callable[[str, bytes | None], Awaitable[ApiKey]],
    ) -> IssuedKey:
        """Create a secret and `store` it, or return that of the first submission."""
        secret = api_key.make_api_key(secrets.token_bytes(KEY_BYTES))
        sealed = None if submission is None else submission.seal(secret, nonce=secrets.token_bytes(NONCE_BYTES))
        try:
            async with self._locks.lock_for(account_id):
                key = await store(secret, sealed)
        except AlreadySubmitted as first:
            assert submission is not None
            key = await self.get(account_id=account_id, key_id=str(first.result))
            unsealed = None if first.sealed is None else submission.unseal(first.sealed)
            return IssuedKey(key=key, secret=unsealed, is_repetition=True)
        return IssuedKey(key=key, secret=secret)

    def _limits(self, draft: KeyDraft, *, is_operator: bool, time_zone: str) -> KeyLimits:
        drafts = key_rules.check_budgets(draft.budgets, self.token_classes)
        return KeyLimits(
            expires_at_us=self.expiry_after(draft.days),
            budgets=merge_budgets(
                (),
                drafts,
                time_zone=time_zone,
                new_budget_id=lambda: ids.budget_id(secrets.token_bytes(ids.RANDOM_BYTES)),
            ),
            models=key_rules.check_models(draft.models, self._catalogue, is_operator=is_operator),
            endpoints=key_rules.check_endpoints(draft.endpoints),
            networks=key_rules.check_networks(draft.networks),
            requests_per_minute=self._rate(draft.requests_per_minute),
        )

    def _checked(self, edit: KeyEdit, current: ApiKey, *, is_operator: bool) -> KeyEdit:
        """Return the edit with each of its members checked. Raises `InvalidRequest` and `NotFound`."""
        limits = current.limits
        classes = {*self.token_classes, *(budget.token_class for budget in limits.budgets if budget.token_class)}

        def check_models(models: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return key_rules.check_models(
                models or (), self._catalogue, is_operator=is_operator, current=limits.models or ()
            )

        checks: dict[str, Callable[..., object]] = {
            "expires_at_us": self._check_expiry,
            "name": key_rules.check_name,
            "note": key_rules.check_note,
            "budgets": lambda drafts: key_rules.check_budgets(drafts, sorted(classes)),
            "models": check_models,
            "endpoints": lambda endpoints: key_rules.check_endpoints(endpoints or ()),
            "networks": lambda networks: key_rules.check_networks(networks or ()),
            "requests_per_minute": lambda rate: rate if rate == limits.requests_per_minute else self._rate(rate),
        }
        changed = {name: getattr(edit, name) for name in checks if getattr(edit, name) is not UNSET}
        return msgspec.structs.replace(edit, **{name: checks[name](value) for name, value in changed.items()})

    def _check_expiry(self, expires_at_us: int | None) -> int | None:
        latest_us = self._clock.now_us() + DAYS_MAX * MICROSECONDS_PER_DAY
        if expires_at_us is not None and not 0 <= expires_at_us <= latest_us:
            message = f"A key must expire within {DAYS_MAX} days, or never."
            raise InvalidRequest(message, param="expires")
        return expires_at_us

    def _rate(self, requests_per_minute: int | None) -> int | None:
        return key_rules.check_rate(requests_per_minute, most=self.requests_per_minute_max)
