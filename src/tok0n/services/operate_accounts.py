"""Let the operator open accounts, look them up by email address, grant tokens, and correct what went wrong."""

from tok0n.domain.accounts import Account
from tok0n.domain.email import parse_email
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.key_edits import OPERATOR
from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.accounts import Accounts
from tok0n.ports.clock import Clock
from tok0n.ports.corrections import Corrections
from tok0n.services.checks import check_count, check_optional_count, check_reason

"""The author of corrections that the operator makes on the command line."""

_ONLY_STANDARD = TokenClasses()


class OperateAccounts:
    """The operator's use cases. Each raises `OperatorError` for an invalid email address."""

    def __init__(
        self,
        accounts: Accounts,
        clock: Clock,
        *,
        corrections: Corrections,
        token_classes: TokenClasses = _ONLY_STANDARD,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._corrections = corrections
        self._token_classes = token_classes

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

    async def grant(self, *, email: str, tokens: int, reason: str, token_class: str = STANDARD) -> Account:
        """Add tokens of a declared class, with a ledger entry that records the reason.

        Raises `NotFound` and `InvalidRequest`.
        """
        return await self._accounts.grant(
            email=parse_email(email),
            tokens=check_count(tokens, most=TOKENS_MAX, param="tokens"),
            token_class=self._token_classes.require(token_class),
            reason=check_reason(reason),
            now_us=self._clock.now_us(),
        )

    async def adjust(self, *, email: str, tokens: int, reason: str, token_class: str = STANDARD) -> Account:
        """Add tokens, or take them away if `tokens` is negative, with a ledger entry that records reason and author.

        Also works in a retired class, if the account has a wallet of it. Raises `NotFound`, `InvalidRequest`, and
        `OperatorError` if fewer tokens are available.
        """
        if not 1 <= abs(tokens) <= TOKENS_MAX:
            raise InvalidRequest(
                f"Enter a whole number other than 0, from -{TOKENS_MAX:,} to {TOKENS_MAX:,}.", param="tokens"
            )
        account = await self.get(email)
        return await self._corrections.adjust(
            email=account.email,
            tokens=tokens,
            token_class=self._token_classes.require(token_class, existing=account.wallets),
            reason=check_reason(reason),
            author=OPERATOR,
            now_us=self._clock.now_us(),
        )

    async def suspend(self, email: str, *, reason: str) -> Account:
        """Reject new requests of an account, and make its pages read-only. Requests in progress settle.

        Raises `NotFound`, `InvalidRequest`, and `OperatorError` if the account isn't open.
        """
        return await self._set_suspended(email, suspended=True, reason=reason)

    async def reopen(self, email: str, *, reason: str) -> Account:
        """Reopen a suspended account. Raises as `suspend`."""
        return await self._set_suspended(email, suspended=False, reason=reason)

    async def _set_suspended(self, email: str, *, suspended: bool, reason: str) -> Account:
        return await self._corrections.set_suspended(
            email=parse_email(email),
            suspended=suspended,
            reason=check_reason(reason),
            actor=OPERATOR,
            now_us=self._clock.now_us(),
        )
