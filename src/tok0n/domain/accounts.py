"""Accounts and API keys as the rest of Tok0n sees them. Holds no secret: a key is known by its digest."""

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
    """What may be shown of a key: never the key itself. When it was last used is known to the minute."""

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
        """Whether the key was not revoked; it may have expired."""
        return self.revoked_at_us is None

    def works(self, now_us: int) -> bool:
        """Whether a call with it is not refused for the key's sake."""
        return self.active and (self.limits.expires_at_us is None or self.limits.expires_at_us > now_us)

    @property
    def caller(self) -> "Caller":
        """Who makes a request with it."""
        return Caller(
            api_key_id=self.id,
            account_id=self.account_id,
            has_budget=self.limits.budget is not None,
            models=self.limits.models,
        )


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may do: until when, how many tokens in all, and which models. None is without limit.

    Fixed when the key is made. `budget` counts what is charged; a single call may exceed it by what its use exceeds
    its reservation.
    """

    expires_at_us: int | None = None
    budget: int | None = None
    models: tuple[str, ...] | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request: the result of looking a key up. `models` is None when the key may use all."""

    api_key_id: str
    account_id: str
    has_budget: bool = False
    models: tuple[str, ...] | None = None

    def may_use(self, model: str) -> bool:
        """Whether the key may call this model."""
        return self.models is None or model in self.models
