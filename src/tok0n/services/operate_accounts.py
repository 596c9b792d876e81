"""Let the operator open accounts, look them up by email address, and grant tokens."""

from tok0n.domain.accounts import Account
from tok0n.domain.email import parse_email
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.accounts import Accounts
from tok0n.ports.clock import Clock
from tok0n.services.checks import check_count, check_optional_count, check_reason


class OperateAccounts:
    """The operator's use cases. Each raises `OperatorError` for an invalid email address."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def create(self, *, email: str, tokens: int | None = None) -> Account:
        """Open an account, and grant it `tokens`. Raises `AlreadyExists` and `InvalidRequest`."""
        initial_tokens = check_optional_count(tokens, most=TOKENS_MAX, param="tokens") or 0
        return await self._accounts.create(email=parse_email(email), tokens=initial_tokens, now_us=self._clock.now_us())

    async def get(self, email: str) -> Account:
        """Return the account of an email address. Raises `NotFound`."""
        return await self._accounts.get(parse_email(email))

    async def list_all(self) -> list[Account]:
        """Return all accounts, oldest first."""
        return await self._accounts.list_all()

    async def grant(self, *, email: str, tokens: int, reason: str) -> Account:
        """Add tokens, with a ledger entry that records the reason. Raises `NotFound` and `InvalidRequest`."""
        return await self._accounts.grant(
            email=parse_email(email),
            tokens=check_count(tokens, most=TOKENS_MAX, param="tokens"),
            reason=check_reason(reason),
            now_us=self._clock.now_us(),
        )
