"""Create and redeem codes, which grant tokens to trials and partners. The database holds only their digests."""

import secrets

from tok0n.domain.attempts import AttemptKind
from tok0n.domain.errors import AccountSuspended, AlreadyExists, AlreadySubmitted, NotFound, OperatorError
from tok0n.domain.forms import Submission
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, STANDARD
from tok0n.domain.orders import Redeemed
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.domain.users import digest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.ports.orders import Orders
from tok0n.services.account_locks import AccountLocks
from tok0n.services.attempts import count_attempt
from tok0n.services.checks import check_count, check_optional_count, check_reason
from tok0n.services.passwords import FormError

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Omits letters and digits that look alike."""

CHARACTERS = 16
GROUP = 4

USES_MAX = 1_000_000
DAYS_MAX = 3_650

_ONLY_STANDARD = TokenClasses()


async def create_code(
    orders: Orders,
    clock: Clock,
    *,
    tokens: int,
    uses_max: int,
    days: int | None,
    reason: str,
    token_class: str = STANDARD,
    token_classes: TokenClasses = _ONLY_STANDARD,
) -> str:
    """Create a code that grants `tokens` once to each of `uses_max` accounts, and return it. Tok0n never stores it.

    `token_classes` are the declared ones. Raises `InvalidRequest`.
    """
    token_classes.require(token_class)
    check_count(tokens, most=TOKENS_MAX, param="tokens")
    check_count(uses_max, most=USES_MAX, param="uses")
    check_optional_count(days, most=DAYS_MAX, param="days")
    reason = check_reason(reason)
    code = "".join(secrets.choice(ALPHABET) for _ in range(CHARACTERS))
    now_us = clock.now_us()
    await orders.create_code(
        digest=digest(code),
        masked=f"{code[:GROUP]}\N{HORIZONTAL ELLIPSIS}",
        tokens=tokens,
        token_class=token_class,
        uses_max=uses_max,
        expires_at_us=None if days is None else now_us + days * MICROSECONDS_PER_DAY,
        reason=reason,
        now_us=now_us,
    )
    return "-".join(code[start : start + GROUP] for start in range(0, CHARACTERS, GROUP))


class RedeemCodes:
    """Redeems codes, with a limit on guessing. An attempt counts before it is evaluated; a valid code uncounts it."""

    def __init__(self, orders: Orders, attempts: Attempts, clock: Clock) -> None:
        self._orders = orders
        self._attempts = attempts
        self._clock = clock
        self._locks = AccountLocks()

    async def redeem(self, *, account_id: str, code: str, submission: Submission | None = None) -> Redeemed:
        """Grant the tokens of a code that the user entered, and return what it granted.

        A repeated `submission` grants nothing more and returns the same. Raises `AccountSuspended`, or
        `FormError` if the code is unknown or used up, the account would own too many tokens, or too many attempts
        failed.
        """
        counted = await count_attempt(self._attempts, self._clock, AttemptKind.REDEEM_CODE, account_id, field="code")
        try:
            async with self._locks.lock_for(account_id):
                redeemed = await self._orders.redeem(
                    account_id=account_id,
                    digest=digest(normalize_code(code)),
                    now_us=self._clock.now_us(),
                    submission=submission,
                )
        except AlreadySubmitted as first:
            redeemed = Redeemed.from_result(first.result or "")
        except (NotFound, AlreadyExists) as error:
            raise FormError(error.message, field="code") from None
        except AccountSuspended:
            await self._attempts.take_back(counted)
            raise
        except OperatorError as error:  # the account would own more tokens than it may
            await self._attempts.take_back(counted)
            raise FormError(error.message, field="code") from None
        await self._attempts.take_back(counted)
        return redeemed


def normalize_code(text: str) -> str:
    """Return the canonical form of a code that a user entered."""
    return "".join(text.upper().replace("-", "").split())[:100]
