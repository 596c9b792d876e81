"""The errors of Tok0n as one tree. `api/errors.py` maps them to HTTP.

    Tok0nError
    ├── InvalidRequest          the customer can fix the request        400
    │   ├── UnknownModel        the model is not listed                 400
    │   └── RejectedByUpstream  the upstream rejected the input         400
    ├── InvalidApiKey           missing, malformed or inactive key      401
    │   └── KeyChanged          the key changed during the request      401
    ├── AccountSuspended        the operator suspended the account      401
    ├── KeyNotAllowed           the key may not do this                 403
    ├── InsufficientTokens      the balance can't cover the reservation 402
    ├── KeyBudgetSpent          the key's budget can't cover it         402
    ├── RateLimited             key, concurrency or global limit        429
    ├── AccountingFailed        the ledger failed                       500
    │   └── KeyLookupFailed     the database can't look up the key      500
    ├── UnexpectedError         a bug                                   500
    ├── ServerStopped           the server stopped during a stream      500
    ├── UpstreamFailed          no valid response from the upstream     502
    ├── LimiterUnavailable      the limiter can't decide                503
    ├── Overloaded              a bounded queue is full                 503
    ├── PasskeyInvalid          a passkey that fails verification       (pages)
    │   └── PasskeyMalformed    not a passkey response                  (pages)
    ├── CredentialsChanged      a concurrent change of credentials      (pages)
    ├── PaymentFailed           the payment provider failed             (pages)
    │   └── CheckoutGone        the provider has no such checkout       (pages)
    ├── LimitReached            an account's limit is reached           (pages)
    ├── AlreadySubmitted        a repeated form submission              (pages)
    ├── SignatureInvalid        a webhook with a wrong signature        (webhook)
    ├── AlreadyResolved         a contradicting end of a reservation    (internal)
    └── OperatorError           a command that failed                   (command line)
        ├── NotFound
        └── AlreadyExists

`message` is for the customer. `detail` is for the operator's log only.
"""

from enum import StrEnum
from typing import ClassVar

NOT_CHARGED = "You were not charged."
INTERNAL_ERROR = "The gateway couldn't complete this request because of an internal error."
"""The message for an unexpected exception. The log has its details."""


class Tok0nError(Exception):
    """The base of all errors. `message` is safe to show to the customer.

    `code` identifies the error in responses, logs and request rows. `detail` is for the operator's log only. `model` is
    the id of the declared model that the request was for, if it is known. `key` is the account and the API key that
    were rejected, as ids, if they are known.
    """

    code = "api_error"
    detail = ""
    model: str | None = None
    key: tuple[str, str] | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(Tok0nError):
    """The request is invalid. `param` names the field, as in OpenAI's errors."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(InvalidRequest):
    """`GET /v1/models` doesn't currently list the model."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {_quoted(model)} is not available. GET /v1/models lists the available models.", param="model"
        )


class RejectedByUpstream(InvalidRequest):
    """The upstream returned 400 or 422 because of the customer's input. `message` is already scrubbed."""


class InvalidApiKey(Tok0nError):
    """The key is missing, malformed, unknown, disabled, expired or revoked, or its account is closed.

    `secret_digest` is the digest of a well-formed key that no caller has.
    """

    code = "invalid_api_key"
    secret_digest: bytes | None = None


class AccountSuspended(Tok0nError):
    """The operator has suspended the account."""

    code = "account_suspended"

    def __init__(self) -> None:
        super().__init__("This account is suspended. Contact support.")


class KeyNotAllowed(Tok0nError):
    """The key exists but may not do this. `param` names what it may not: network, endpoint or model."""

    code = "key_not_allowed"

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class KeyChanged(InvalidApiKey):
    """The key, its budgets or its account changed after its caller was read. Read the caller again."""

    def __init__(self) -> None:
        super().__init__("This API key is no longer active.")


class KeyBudgetSpent(Tok0nError):
    """A budget of the key can't cover the reservation. `left` may be negative. Amounts are tokens.

    `budget` describes the budget, and `resets` says when it resets. The ledger knows only its id.
    """

    code = "insufficient_tokens"
    param = "budget"

    def __init__(self, *, left: int, required: int, budget_id: str, budget: str = "budget", resets: str = "") -> None:
        self.left = left
        self.required = required
        self.budget_id = budget_id
        super().__init__(
            f"This request needs up to {required} tokens, but the {budget} of this API key has {max(0, left)} left."
            f"{resets and ' '}{resets} Lower the output limit or use another API key. {NOT_CHARGED}"
        )


class InsufficientTokens(Tok0nError):
    """The account can't cover the reservation. Amounts are tokens.

    `largest_output_tokens` is the largest output limit that the balance covers, or 0 if it covers none. `limit_field`
    is the field that limits the output; empty if the endpoint has none. `token_class` is the class of the tokens, or
    None if there is only one. `advice` says how to get tokens. The ledger knows only the first three figures.
    """

    code = "insufficient_tokens"

    def __init__(
        self,
        *,
        required: int,
        posted: int,
        pending: int,
        largest_output_tokens: int,
        limit_field: str = "max_completion_tokens",
        token_class: str | None = None,
        advice: str = "",
    ) -> None:
        self.required = required
        self.posted = posted
        self.pending = pending
        self.available = posted - pending
        self.largest_output_tokens = largest_output_tokens
        if not limit_field:
            consequence = ". Send less input."
        elif largest_output_tokens:
            consequence = f". Lower {limit_field} to {largest_output_tokens} or less."
        else:
            consequence = f", so no {limit_field} fits."
        of_class = "" if token_class is None else f" of the class {token_class}"
        super().__init__(
            f"This request needs up to {required} tokens{of_class}. Your account has {self.available} available and"
            f" {pending} reserved by requests in progress{consequence}{advice and ' '}{advice}"
        )

    @property
    def may_fit_later(self) -> bool:
        """Whether the same request would fit if every request in progress ended without a charge."""
        return self.required <= self.posted


class Limit(StrEnum):
    """The three limits of the limiter."""

    KEY = "key"
    CONCURRENCY = "concurrency"
    GLOBAL = "global"


class RateLimited(Tok0nError):
    """The limit `which` rejected the request. A rejected request counts toward none of the limits.

    `retry_after_seconds` is the estimated time until that limit has room again.
    """

    code = "rate_limit_error"
    _WORDS: ClassVar = {
        Limit.KEY: "This API key has reached its limit of {limit} requests per minute",
        Limit.CONCURRENCY: "This account has reached its limit of {limit} concurrent requests",
        Limit.GLOBAL: "The gateway has reached its limit of {limit} upstream requests per minute for all customers",
    }

    def __init__(self, *, which: Limit, limit: int, retry_after_seconds: float) -> None:
        self.which = which
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        words = self._WORDS[which].format(limit=limit)
        super().__init__(f"{words} ({which} limit). Wait for the seconds in the retry-after header, then retry.")


class AccountingFailed(Tok0nError):
    """The ledger failed to reserve or settle, so nothing is charged.

    If `upstream_called`, a retry can make the upstream work twice. If `outcome_unknown`, the database may have
    committed the command.
    """

    _problem = "The gateway could not record this request in the ledger."

    def __init__(self, *, upstream_called: bool, detail: str, outcome_unknown: bool = False) -> None:
        super().__init__(f"{self._problem} {NOT_CHARGED}")
        self.upstream_called = upstream_called
        self.outcome_unknown = outcome_unknown
        self.detail = detail


class KeyLookupFailed(AccountingFailed):
    """The database failed to look up the key, so it is unknown whether the key is valid."""

    _problem = "The gateway could not look up this API key."

    def __init__(self, *, detail: str) -> None:
        super().__init__(upstream_called=False, detail=detail)


class UnexpectedError(Tok0nError):
    """An exception that this tree doesn't name stopped the request, so nothing is charged.

    If `upstream_called`, a retry can make the upstream work twice.
    """

    def __init__(self, *, upstream_called: bool, detail: str) -> None:
        super().__init__(f"{INTERNAL_ERROR} {NOT_CHARGED}")
        self.upstream_called = upstream_called
        self.detail = detail


class UpstreamFailed(Tok0nError):
    """The upstream failed or returned an invalid response, so nothing is charged.

    `reached` is False only if the gateway sent nothing of the request. `outcome_unknown` is True if the upstream may
    have done the work: after a timeout, a truncated or invalid response, or missing usage. `status` is the upstream's
    status, if it responded. `retry_after_seconds` comes from the header of a 429.
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
    """The limiter is unreachable or being refilled. The gateway fails closed: it rejects the request."""

    code = "rate_limit_unavailable"

    def __init__(self, *, retry_after_seconds: float = 1.0, detail: str) -> None:
        super().__init__(f"The rate limiter is unavailable. Try again in a few seconds. {NOT_CHARGED}")
        self.retry_after_seconds = retry_after_seconds
        self.detail = detail


class Overloaded(Tok0nError):
    """A bounded queue is full. The gateway rejects the request at once to keep the latency of others low.

    `detail` replaces the default log text, for example if a resource other than the queue is exhausted.
    """

    code = "overloaded"

    def __init__(self, *, queue: str, detail: str | None = None, retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"The gateway is overloaded. Try again in a few seconds. {NOT_CHARGED}")
        self.detail = detail or f"the queue of {queue} is full"
        self.retry_after_seconds = retry_after_seconds


class ServerStopped(Tok0nError):
    """The server stopped before a stream was complete."""

    def __init__(self) -> None:
        super().__init__(f"The gateway stopped before this stream was complete. {NOT_CHARGED}")


class AlreadyResolved(Tok0nError):
    """The reservation has already ended in another way."""

    def __init__(self, *, request_id: str, status: str, event: str) -> None:
        super().__init__(f"can't {event} request {request_id}: it is already {status}")
        self.request_id = request_id
        self.status = status


class OperatorError(Tok0nError):
    """A command failed. The message tells the operator what to do."""


class PasskeyInvalid(Tok0nError):
    """The browser's passkey response fails verification."""


class PasskeyMalformed(PasskeyInvalid):
    """The form doesn't contain a passkey response (W3C Web Authentication, level 3)."""


class CredentialsChanged(Tok0nError):
    """The user's credentials changed during this request, which ended its session or sign-in."""

    def __init__(self) -> None:
        super().__init__("Your password or another credential has changed. Sign in again.")


class PaymentFailed(Tok0nError):
    """The payment provider was unreachable or rejected the request."""

    def __init__(self, *, detail: str) -> None:
        super().__init__("The payment provider is unavailable, and nothing was paid. Try again in a few minutes.")
        self.detail = detail


class CheckoutGone(PaymentFailed):
    """The provider has no such checkout. Another provider account or the other mode (test, live) created it."""


class LimitReached(Tok0nError):
    """The account has reached a limit, such as its number of API keys. The message tells the customer what to do."""


class AlreadySubmitted(Tok0nError):
    """The form was submitted before. The repeated submission changes nothing.

    `result` identifies the object that the first submission created, or is None while that runs. `sealed` is the
    encrypted secret of the first response (`domain.forms`), or None if it had none or the secret has expired.
    """

    def __init__(self, *, result: str | None, sealed: bytes | None) -> None:
        super().__init__("You already submitted this form. Nothing was changed.")
        self.result = result
        self.sealed = sealed


class SignatureInvalid(Tok0nError):
    """The webhook's signature is wrong or too old."""


class NotFound(OperatorError):
    """The account, key, model or other object doesn't exist."""


class AlreadyExists(OperatorError):
    """The object already exists. Nothing was changed."""


def _quoted(text: str) -> str:
    """Quote and shorten a customer's text for a message to that customer."""
    return repr(text if len(text) <= 80 else text[:80] + "…")
