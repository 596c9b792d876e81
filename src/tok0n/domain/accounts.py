"""Accounts and API keys. Holds no secrets: API keys are stored as digests only."""

import msgspec

from tok0n.domain.ledger import Balance


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of a balance. `status` is "open" or "closed"."""

    id: str
    email: str
    status: str
    balance: Balance
    created_at_us: int


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an API key, without its secret. `last_used_at_us` is exact to the minute."""

    id: str
    account_id: str
    name: str
    prefix: str
    last_four: str
    created_at_us: int
    revoked_at_us: int | None
    last_used_at_us: int | None
    limits: "KeyLimits"

    @property
    def active(self) -> bool:
        """Whether the key is not revoked. It may have expired."""
        return self.revoked_at_us is None

    def works(self, now_us: int) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.active and (self.limits.expires_at_us is None or self.limits.expires_at_us > now_us)

    @property
    def caller(self) -> "Caller":
        """The caller of requests that use this key."""
        return Caller(
            api_key_id=self.id,
            account_id=self.account_id,
            has_budget=self.limits.budget is not None,
            models=self.limits.models,
            expires_at_us=self.limits.expires_at_us,
        )


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """An API key's expiry, total token budget and allowed models, fixed when the key is created. None means no limit.

    A request reserves within `budget`, but its charge can exceed the budget if its use exceeds its reservation.
    """

    expires_at_us: int | None = None
    budget: int | None = None
    models: tuple[str, ...] | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The account and API key that make a request. `models` is None if the key may use every model."""

    api_key_id: str
    account_id: str
    has_budget: bool = False
    models: tuple[str, ...] | None = None
    expires_at_us: int | None = None

    def has_expired(self, now_us: int) -> bool:
        """Whether the key has expired."""
        return self.expires_at_us is not None and self.expires_at_us <= now_us

    def may_use(self, model: str) -> bool:
        """Whether the key may use `model`."""
        return self.models is None or model in self.models
