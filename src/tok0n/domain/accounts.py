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
    """What may be shown of a key: never the key itself."""

    id: str
    account_id: str
    name: str
    prefix: str
    last_four: str
    created_at_us: int
    revoked_at_us: int | None

    @property
    def active(self) -> bool:
        """Whether the key can be used."""
        return self.revoked_at_us is None


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who makes a request: the result of looking a key up."""

    api_key_id: str
    account_id: str
