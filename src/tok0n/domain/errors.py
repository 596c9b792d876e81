"""Everything that can go wrong with a request, as one tree. Knows no HTTP: `api/errors.py` maps it.

    Tok0nError
    ├── InvalidRequest          the customer can mend it            400
    │   ├── UnknownModel        not listed, now                     400
    │   └── RejectedByUpstream  the upstream refused the input      400
    ├── InvalidApiKey           missing, malformed, revoked         401
    ├── InsufficientTokens      the account cannot cover it         402
    ├── KeyBudgetSpent          the key's own budget cannot         402
    ├── RateLimited             key, concurrency or global limit    429
    ├── AccountingFailed        the ledger could not be trusted     500
    ├── UpstreamFailed          the upstream did not deliver        502
    ├── LimiterUnavailable      no admission decision possible      503
    ├── Overloaded              a bounded queue is full             503
    ├── PasskeyInvalid          a sign-in that proves nothing       (pages)
    │   └── PasskeyMalformed    no passkey at all                   (pages)
    ├── CredentialsChanged      another change was first            (pages)
    ├── PaymentFailed           the provider could not be asked     (pages)
    │   └── CheckoutGone        the provider knows no such checkout (pages)
    ├── LimitReached            an account has all it may have      (pages)
    ├── AlreadySubmitted        a form that was submitted before    (pages)
    ├── SignatureInvalid        a webhook of somebody else          (webhook)
    ├── AlreadyResolved         a second end for one reservation    (never reaches a customer)
    └── OperatorError           a command that cannot be carried out (command line)
        ├── NotFound
        └── AlreadyExists

The message of each is written for the customer; `detail`, where there is one, for the operator's log only.
"""

from enum import StrEnum
from typing import ClassVar

NOT_CHARGED = "You were not charged."


class Tok0nError(Exception):
    """The root. `message` may be shown to the customer; it never contains the operator's secrets.

    `code` is the word for it in answers, logs and request rows. `detail` is for the operator's log only.
    """

    code = "api_error"
    detail = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(Tok0nError):
    """The body or the feature asked for is not valid. `param` names the field, as OpenAI's errors do."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(InvalidRequest):
    """The model is not in the list that `GET /v1/models` gives at this moment."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {_shown(model)} is not available here. GET /v1/models lists the models you can call.",
            param="model",
        )


class RejectedByUpstream(InvalidRequest):
    """The upstream answered 400 or 422 because of the customer's input. `message` is already scrubbed."""


class InvalidApiKey(Tok0nError):
    """The key is missing, malformed, unknown, revoked, or its account is closed."""

    code = "invalid_api_key"


class KeyBudgetSpent(Tok0nError):
    """The key's own budget cannot cover the reservation. `left` may be less than 0."""

    code = "insufficient_tokens"

    def __init__(self, *, left: int, required: int) -> None:
        super().__init__(
            f"The budget of this API key is spent: {max(0, left)} tokens are left of it, and this request could need"
            f" {required}. " + NOT_CHARGED
        )


class InsufficientTokens(Tok0nError):
    """The account cannot cover the reservation. All figures are tokens.

    `largest_output_tokens` is the largest `max_completion_tokens` that would fit now; 0 when none does.
    """

    code = "insufficient_tokens"

    def __init__(self, *, required: int, posted: int, pending: int, largest_output_tokens: int) -> None:
        self.required = required
        self.posted = posted
        self.pending = pending
        self.available = posted - pending
        self.largest_output_tokens = largest_output_tokens
        fits = (
            f"The largest max_completion_tokens that fits now is {largest_output_tokens}."
            if largest_output_tokens
            else "No max_completion_tokens fits now."
        )
        super().__init__(
            f"This request must reserve {required} tokens, and the account has {self.available} available"
            f" ({pending} more are reserved by calls in flight). {fits}"
            " Lower max_completion_tokens, shorten the messages, or buy a token pack."
        )

    @property
    def only_calls_in_flight_stand_in_the_way(self) -> bool:
        """Whether the same request would fit once the calls now running have ended, if they cost nothing."""
        return self.required <= self.posted


class Limit(StrEnum):
    """Which of the three limits refused."""

    KEY = "key"
    CONCURRENCY = "concurrency"
    GLOBAL = "global"


class RateLimited(Tok0nError):
    """One of the three limits refused; none of the three was used up.

    `retry_after_seconds` is when the refusing limit has room again, as far as is known now.
    """

    code = "rate_limit_error"
    _WORDS: ClassVar = {
        Limit.KEY: "This API key has made its {limit} requests of the last 60 seconds",
        Limit.CONCURRENCY: "This account has its {limit} concurrent requests in flight",
        Limit.GLOBAL: "The gateway has made its {limit} upstream requests of the last 60 seconds, over all customers",
    }

    def __init__(self, *, which: Limit, limit: int, retry_after_seconds: float) -> None:
        self.which = which
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        words = self._WORDS[which].format(limit=limit)
        super().__init__(f"{words} ({which} limit). Retry after the time in the retry-after header.")


class AccountingFailed(Tok0nError):
    """A reservation or settlement could not be completed safely, so nothing is charged.

    `upstream_called` says whether a retry could make the upstream work twice. `outcome_unknown` is True when the
    database may have done what was asked all the same. `detail` is the operator's.
    """

    def __init__(self, *, upstream_called: bool, detail: str, outcome_unknown: bool = False) -> None:
        super().__init__("The gateway could not complete the accounting of this request. " + NOT_CHARGED)
        self.upstream_called = upstream_called
        self.outcome_unknown = outcome_unknown
        self.detail = detail


class UpstreamFailed(Tok0nError):
    """The upstream failed or returned something that cannot be believed; nothing is charged.

    `reached` is False when certainly nothing of the request was sent. `outcome_unknown` is True when the upstream may
    have done the work (timeout, cut or invalid answer, missing usage). `status` is the upstream's, if it answered;
    `retry_after_seconds` is what a 429 says.
    """

    code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        detail: str,
        reached: bool = True,
        outcome_unknown: bool = False,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{message} {NOT_CHARGED}")
        self.detail = detail
        self.reached = reached
        self.outcome_unknown = outcome_unknown
        self.status = status
        self.retry_after_seconds = retry_after_seconds


ADMISSION_EXPIRED = "the admission expired before the request was written to the database"


class LimiterUnavailable(Tok0nError):
    """The limiter cannot be reached or is being refilled: fail closed."""

    code = "rate_limit_unavailable"

    def __init__(self, *, retry_after_seconds: float = 1.0, detail: str) -> None:
        super().__init__("The rate limiter is unavailable, so no request can be admitted. " + NOT_CHARGED)
        self.retry_after_seconds = retry_after_seconds
        self.detail = detail


class Overloaded(Tok0nError):
    """A bounded queue is full: the gateway refuses at once rather than answer everybody late.

    `detail` says what else is exhausted.
    """

    code = "overloaded"

    def __init__(self, *, queue: str, detail: str | None = None, retry_after_seconds: float = 1.0) -> None:
        super().__init__("The gateway is at its capacity. " + NOT_CHARGED)
        self.detail = detail or f"the queue of {queue} is full"
        self.retry_after_seconds = retry_after_seconds


class AlreadyResolved(Tok0nError):
    """A reservation that has ended one way cannot end another way."""

    def __init__(self, *, request_id: str, status: str, wanted: str) -> None:
        super().__init__(f"request {request_id} is {status} already; it cannot {wanted}")
        self.request_id = request_id
        self.status = status


class OperatorError(Tok0nError):
    """A command cannot be carried out; the message tells the operator what to do."""


class PasskeyInvalid(Tok0nError):
    """What a browser says of a passkey does not hold."""


class PasskeyMalformed(PasskeyInvalid):
    """The form holds no credential as browsers send it (W3C Web Authentication, level 3)."""


class CredentialsChanged(Tok0nError):
    """The credentials changed while this request was running, which ended its session or sign-in."""

    def __init__(self) -> None:
        super().__init__("The password or another credential of this account has just changed. Sign in again.")


class PaymentFailed(Tok0nError):
    """The payment provider could not be asked, or refused. `detail` is for the operator's log."""

    def __init__(self, *, detail: str) -> None:
        super().__init__("The payment provider could not be reached, and nothing was paid. Try again in a moment.")
        self.detail = detail


class CheckoutGone(PaymentFailed):
    """The provider knows no such checkout: it was created with another provider account, or in the other mode."""


class LimitReached(Tok0nError):
    """The account has as many of something as it may have. The message says what to do."""


class AlreadySubmitted(Tok0nError):
    """This form was submitted before; nothing was created or changed now.

    `result` names what the first submission created, None while that is in progress. `sealed` is the secret that it
    showed, encrypted (`domain.forms`); None when it had none, or no longer shows it.
    """

    def __init__(self, *, result: str | None, sealed: bytes | None) -> None:
        super().__init__("You submitted this form before. Nothing was changed.")
        self.result = result
        self.sealed = sealed


class SignatureInvalid(Tok0nError):
    """A webhook that is not the provider's, or is too old."""


class NotFound(OperatorError):
    """No such account, key or model."""


class AlreadyExists(OperatorError):
    """It is there already; nothing was changed."""


def _shown(text: str, *, characters_max: int = 80) -> str:
    """Quote a customer's own text in a message to that customer, shortened."""
    return repr(text if len(text) <= characters_max else text[:characters_max] + "…")
