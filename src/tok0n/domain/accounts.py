"""Accounts and API keys. Holds no secrets: API keys are stored as digests only."""

from collections.abc import Mapping

import msgspec

from tok0n.domain import client_ip
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.errors import KeyNotAllowed
from tok0n.domain.ledger import STANDARD, Balance


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of tokens. `status` is "open", "suspended" or "closed". `wallets` are the balances by token class.

    The wallet of standard tokens always exists.
    """

    id: str
    email: str
    status: str
    wallets: Mapping[str, Balance]
    created_at_us: int

    @property
    def balance(self) -> Balance:
        """The standard tokens."""
        return self.wallets[STANDARD]


class KeySecret(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a secret of a key: its first and last characters. It works until `ends_at_us`, exclusive."""

    prefix: str
    last_four: str
    created_at_us: int
    ends_at_us: int | None = None

    def is_active(self, now_us: int) -> bool:
        """Whether the secret has not ended."""
        return self.ends_at_us is None or self.ends_at_us > now_us

    @property
    def shown_as(self) -> str:
        """The first and last characters, for display."""
        return f"{self.prefix}…{self.last_four}"


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an API key may do. None means no limit.

    A request reserves within every budget, but its charge can exceed one if its use exceeds its reservation.
    `networks` are IP networks in CIDR notation. `requests_per_minute` is at most that of the installation.
    """

    expires_at_us: int | None = None
    budgets: tuple[KeyBudget, ...] = ()
    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    requests_per_minute: int | None = None

    @property
    def total_budget(self) -> int | None:
        """The tokens of the budget that never resets and counts every class, or None if there is no such budget."""
        for budget in self.budgets:
            if budget.period is ResetPeriod.TOTAL and budget.token_class is None:
                return budget.tokens
        return None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an API key. `secrets` has at least one, newest first. `last_used_at_us` is exact to the minute.

    `version` grows with each change of what the key may do, and with each change of its account's status.
    """

    id: str
    account_id: str
    name: str
    version: int
    secrets: tuple[KeySecret, ...]
    created_at_us: int
    revoked_at_us: int | None
    disabled_at_us: int | None
    last_used_at_us: int | None
    limits: KeyLimits
    note: str = ""

    @property
    def prefix(self) -> str:
        """The first characters of the newest secret."""
        return self.secrets[0].prefix

    @property
    def last_four(self) -> str:
        """The last characters of the newest secret."""
        return self.secrets[0].last_four

    @property
    def shown_as(self) -> str:
        """The first and last characters of the newest secret, for display."""
        return self.secrets[0].shown_as

    @property
    def is_disabled(self) -> bool:
        """Whether the key is disabled, until it is enabled again."""
        return self.disabled_at_us is not None

    def has_expired(self, now_us: int) -> bool:
        """Whether the key has expired."""
        return self.limits.expires_at_us is not None and self.limits.expires_at_us <= now_us

    @property
    def is_revoked(self) -> bool:
        """Whether the key is revoked, which is permanent."""
        return self.revoked_at_us is not None

    def is_active(self, now_us: int) -> bool:
        """Whether the key is neither revoked nor disabled nor expired."""
        return not self.is_revoked and not self.is_disabled and not self.has_expired(now_us)

    @property
    def caller(self) -> "Caller":
        """The caller of requests that use this key."""
        return Caller(
            api_key_id=self.id,
            account_id=self.account_id,
            key_version=self.version,
            budgets=self.limits.budgets,
            models=self.limits.models,
            endpoints=self.limits.endpoints,
            networks=self.limits.networks,
            requests_per_minute=self.limits.requests_per_minute,
            expires_at_us=self.limits.expires_at_us,
            is_disabled=self.is_disabled,
        )


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The account and API key that make a request, and what the key may do. None means no limit.

    `expires_at_us` is when the key expires, or the end of its secret if that is earlier. A disabled key and the key of
    a suspended account have a caller, so that the error can say why they are rejected. `secret_digest` is the digest of
    the secret that the request sent, or None if a signed-in user chose the key.
    """

    api_key_id: str
    account_id: str
    key_version: int = 1
    budgets: tuple[KeyBudget, ...] = ()
    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    expires_at_us: int | None = None
    is_disabled: bool = False
    is_suspended: bool = False
    secret_digest: bytes | None = None

    def has_expired(self, now_us: int) -> bool:
        """Whether the key has expired, or the secret has ended."""
        return self.expires_at_us is not None and self.expires_at_us <= now_us

    def check_network(self, address: str) -> None:
        """Raise `KeyNotAllowed` unless the key may be used from a client IP."""
        if self.networks is not None and not client_ip.is_in(address, self.networks):
            raise KeyNotAllowed(f"This API key may not be used from the IP address {address}.", param="network")

    def check_endpoint(self, name: str, path: str) -> None:
        """Raise `KeyNotAllowed` unless the key may call the endpoint. `name` is its name in the limits."""
        if self.endpoints is not None and name not in self.endpoints:
            raise KeyNotAllowed(f"This API key may not call {path}.", param="endpoint")

    def check_model(self, model: str) -> None:
        """Raise `KeyNotAllowed` unless the key may use a model."""
        if self.models is not None and model not in self.models:
            error = KeyNotAllowed(f"This API key may not use the model {model}.", param="model")
            error.model = model
            raise error
