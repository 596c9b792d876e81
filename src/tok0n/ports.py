"""All that Tok0n needs from outside, on one page.

Methods that return `Future` never block, and raise `Overloaded` at once when their queue is full. Those of `Ledger`
carry out what was submitted whatever becomes of the caller: their futures cannot be cancelled, and a task that is
cancelled while it awaits one gets its `CancelledError` when the future is done.
"""

from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec

from tok0n.domain.accounts import Account, ApiKey, Caller, KeyLimits
from tok0n.domain.attempts import AttemptKind, AttemptLimit, Counted, TooMany
from tok0n.domain.catalogue import ModelState, Verification
from tok0n.domain.forms import Submission
from tok0n.domain.history import HourOfUse, LedgerEntry, RequestFilter, RequestRecord, UseBy, UseFilter, UseTotals
from tok0n.domain.ledger import AuditReport, Balance, NewReservation, Receipt, Release, Settlement
from tok0n.domain.orders import OpenedOrder, Order, Payment
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, Event, StoredEvent
from tok0n.domain.people import LinkPurpose, LowBalance, Passkey, Person, Session, SessionRecord

_NO_LIMITS = KeyLimits()


class Clock(Protocol):
    """The two times there are."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, for what is stored."""

    def monotonic(self) -> float:
        """Seconds that never go back, for what is measured."""


class Ledger(Protocol):
    """The life of reservations. Every answer is durable before its future resolves."""

    def has_room(self) -> bool:
        """Whether a reservation would be taken now. Else it raises `Overloaded`: asking first spares preparing it."""

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        """Set tokens aside, in one statement that also proves the key active and the account open.

        Gives the balance after. Raises `InvalidApiKey`, `InsufficientTokens` (its `largest_output_tokens` is 0: the
        ledger knows no outputs), `Overloaded`, or `AccountingFailed` when the database fails; then nothing is reserved.
        """

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        """Charge the use and release the rest. Repeated, it gives the first figures, with the balance of now.

        Raises `AlreadyResolved` when the reservation was released or expired, `AccountingFailed` when the database
        fails; then nothing is charged. Never refuses for a full queue: what was reserved must be able to end.
        """

    def release(self, release: Release) -> Future[None]:
        """End a reservation that costs nothing. Repeated, or after the row expired, it does nothing.

        Raises `AlreadyResolved` when it was settled, `AccountingFailed` when the database fails. Never refuses for a
        full queue.
        """

    async def reverse(self, *, request_id: str, now_us: int) -> None:
        """Give back, once, what a request was charged whose customer had been told that it was not.

        It is an `adjustment` entry. Does nothing for a request that is not settled. Raises `AccountingFailed`.
        """

    async def expire(self, *, now_us: int, rows_max: int) -> int:
        """Expire what is PENDING beyond its expiry, at most `rows_max` rows; gives how many were."""

    async def recover(self, *, now_us: int) -> int:
        """Expire everything PENDING, whatever its expiry. Only for a start that knows no other process lives."""

    async def recent(self, *, since_us: int) -> "list[RecentRequest]":
        """What a limiter that forgot is filled from, oldest first.

        The requests created at or after `since_us`, all that are PENDING, and the operator's own since then.
        """

    async def audit(self) -> AuditReport:
        """Recompute everything from the entries and the request rows, in one snapshot."""


class RecentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the last minute, or one that is still PENDING.

    `dispatched` is False when certainly nothing reached the upstream. The operator's own requests have no caller.
    """

    request_id: str
    caller: Caller | None
    created_at_us: int
    dispatched: bool
    pending: bool


class Accounts(Protocol):
    """Accounts and their API keys."""

    async def create(self, *, email: str, tokens: int, now_us: int) -> Account:
        """Open an account, with a `grant` entry when `tokens` > 0. Raises `AlreadyExists`."""

    async def get(self, email: str) -> Account:
        """The account of this e-mail. Raises `NotFound`."""

    async def list_all(self) -> list[Account]:
        """All accounts, oldest first."""

    async def grant(self, *, email: str, tokens: int, reason: str, now_us: int) -> Account:
        """Append a `grant` entry of `tokens` > 0. Raises `NotFound`."""

    async def create_key(
        self,
        *,
        email: str,
        name: str,
        digest: bytes,
        prefix: str,
        last_four: str,
        now_us: int,
        limits: KeyLimits = _NO_LIMITS,
        keys_max: int | None = None,
        submission: Submission | None = None,
        sealed: bytes | None = None,
    ) -> ApiKey:
        """Store a new key by its digest, with the submitted form that created it, in one transaction.

        Raises `NotFound` without such an open account, `LimitReached` when the account has `keys_max` keys that work,
        and `AlreadySubmitted` with the id of the first submission's key.
        """

    async def list_keys(self, email: str) -> list[ApiKey]:
        """All keys of an account, oldest first. Raises `NotFound`."""

    async def rename_key(self, *, account_id: str, key_id: str, name: str) -> None:
        """Give a key of the account another name. Raises `NotFound`."""

    async def revoke_key(self, *, key_id: str, now_us: int) -> ApiKey:
        """Revoke a key for good; repeated, it keeps the first time. Raises `NotFound`."""

    async def keys_used(self, used_at_us: Mapping[str, int]) -> None:
        """Remember when keys were last used, by their ids."""

    async def find_caller(self, digest: bytes, *, now_us: int) -> Caller | None:
        """The caller of an active key of an open account, looked up by the whole digest."""


class History(Protocol):
    """What an account can look back on. Every query names the account: nobody reads another's."""

    async def balance(self, account_id: str) -> Balance:
        """What the account owns and has reserved. Raises `NotFound`."""

    async def key(self, account_id: str, api_key_id: str) -> ApiKey:
        """One key of the account. Raises `NotFound`."""

    async def key_spent(self, account_id: str) -> dict[str, int]:
        """What each key of the account was charged in all; keys that were not are not in it."""

    async def request(self, account_id: str, request_id: str) -> RequestRecord:
        """One request. Raises `NotFound`."""

    async def requests(
        self, account_id: str, chosen: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[RequestRecord]:
        """At most `rows_max` requests, newest first, from before the id `before`."""

    async def hours(self, account_id: str, chosen: UseFilter, *, by: UseBy) -> list[HourOfUse]:
        """The use of each hour by model or by key, oldest first."""

    async def totals(self, account_id: str, chosen: UseFilter) -> UseTotals:
        """The sums of what was charged."""

    async def models_used(self, account_id: str) -> list[str]:
        """The models that the account was ever charged for, in the order of their names."""

    async def entries(self, account_id: str, *, before: int | None, rows_max: int) -> list[LedgerEntry]:
        """At most `rows_max` ledger entries, newest first, from before the entry `before`."""


class Orders(Protocol):
    """Purchases of packs, what is known of their payments, and what the ledger made of it; and redeem codes."""

    async def open(
        self, *, account_id: str, pack: Pack, currency: str, now_us: int, submission: Submission | None = None
    ) -> OpenedOrder:
        """Open an order, with tokens and price as they are now, in one transaction that locks the account first.

        Gives the order that the same `submission` opened before; else the account's open order of the same pack; else a
        new one; or, when the account has `OPEN_CHECKOUTS_MAX` open orders, the oldest, which must be expired first.
        Raises `NotFound` without such an open account, `LimitReached` for one that starts too many purchases.
        """

    async def attach_checkout(self, order_id: str, *, checkout_id: str) -> bool:
        """Remember the provider's name for an order's checkout. False when the order has expired, or has another."""

    async def abandon(self, order_id: str) -> None:
        """Expire an order that never got a checkout: the process died first. Does nothing to any other order."""

    async def get(self, order_id: str) -> Order:
        """One order. Raises `NotFound`."""

    async def find_by_payment(self, payment_id: str) -> Order | None:
        """The order of a payment, by the provider's name for it."""

    async def of(self, account_id: str, *, before: str | None, rows_max: int, with_expired: bool = True) -> list[Order]:
        """At most `rows_max` orders of the account, newest first, from before the id `before`."""

    async def entries(self, order_id: str) -> list[LedgerEntry]:
        """The ledger entries of an order, oldest first."""

    async def record(self, order_id: str, facts: Payment, *, payment_id: str | None, now_us: int) -> Order:
        """Add what became known of a payment, and append the entries that follow, in one transaction.

        Repeated or out of order, it ends the same. What is to be taken back and is reserved by calls in flight is taken
        by a repetition after they have ended: see `Order.is_settled`. Raises `NotFound`, or `AlreadyExists` when the
        payment or a dispute belongs to another order.
        """

    async def debt(self, account_id: str) -> int:
        """Tokens that were refunded or disputed after they were spent, and that the next purchase covers first."""

    async def create_code(
        self,
        *,
        digest: bytes,
        shown: str,
        tokens: int,
        uses_max: int,
        expires_at_us: int | None,
        reason: str,
        now_us: int,
    ) -> None:
        """Remember a code that is good for `tokens`, once for each account and `uses_max` times in all."""

    async def redeem(self, *, account_id: str, digest: bytes, now_us: int, submission: Submission | None = None) -> int:
        """Grant the tokens of a code; gives how many.

        Raises `NotFound`, `AlreadyExists` for a second time, or `AlreadySubmitted` with the tokens that the first
        submission of the same form granted.
        """


class Payments(Protocol):
    """The payment provider. All but `read` raise `PaymentFailed`."""

    @property
    def is_live(self) -> bool:
        """Whether real money is moved."""

    @property
    def page_origin(self) -> str:
        """Where the pages are on which buyers pay, as https://HOST."""

    async def open_checkout(self, order: Order, *, email: str, success_url: str, cancel_url: str) -> Checkout:
        """Make the page on which an order is paid; repeated, it is the same one."""

    async def checkout(self, checkout_id: str) -> Checkout:
        """How far a checkout has come. Raises `CheckoutGone` too."""

    async def expire_checkout(self, checkout_id: str) -> Checkout:
        """Expire a checkout that is still open; gives how far it has come. One that was paid meanwhile stays paid.

        Raises `CheckoutGone` too.
        """

    async def refund(self, payment_id: str, *, cents: int, key: str) -> None:
        """Give money back; repeated with the same `key`, it is given back once."""

    def read(self, payload: bytes, signature: str | None, *, now_us: int) -> Event:
        """A webhook, proven to be the provider's and fresh. Raises `SignatureInvalid`.

        An event whose contents cannot be understood is about `NotApplicable`.
        """

    def events(self, *, since_us: int) -> AsyncIterator[Event]:
        """Every event since then, newest first."""


class Inbox(Protocol):
    """Events of the payment provider: kept before they are answered, until they were acted on."""

    async def store(self, event: Event, *, now_us: int) -> bool:
        """Keep an event. False when it is here already."""

    async def unhandled(self, *, now_us: int, rows_max: int) -> list[StoredEvent]:
        """Events that are due and were not acted on yet, the least tried first, and of those the oldest."""

    async def mark_handled(self, event_id: str, *, now_us: int, failure: str | None) -> bool:
        """It was acted on, or must not be, for a reason. False when another process said so first."""

    async def tried(self, event_id: str, *, attempts: int, due_at_us: int, failure: str) -> bool:
        """It could not be acted on, `attempts` times until now, and is due again then. False as above."""

    async def reconciled_us(self) -> int | None:
        """When the provider was last asked for everything that it had to tell, and answered."""

    async def reconciled(self, *, at_us: int) -> None:
        """All events until then are here."""


class Forms(Protocol):
    """Submitted forms, for 24 hours: a second submission of the same form creates and changes nothing."""

    async def claim(self, submission: Submission, *, result: str | None, now_us: int) -> None:
        """Remember the first submission, before it does anything. Raises `AlreadySubmitted`.

        Without a `result` it is in progress until `finish` or `withdraw`.
        """

    async def finish(self, submission: Submission, *, result: str, sealed: bytes | None) -> None:
        """Remember what a claimed submission led to."""

    async def withdraw(self, submission: Submission) -> None:
        """Forget a claimed submission that failed: the same form may be submitted again."""

    async def check(self, submission: Submission, *, now_us: int) -> None:
        """Raises `AlreadySubmitted` for a submission that is remembered."""

    async def forget_old(self, *, now_us: int) -> None:
        """Remove secrets after 10 minutes, and submissions after 24 hours."""


class Attempts(Protocol):
    """Counted attempts to prove something, shared by all processes. Subjects come in as digests."""

    async def try_count(
        self, kind: AttemptKind, subject: bytes, *, limit: AttemptLimit, now_us: int
    ) -> Counted | TooMany:
        """Count one attempt unless the limit is reached, atomically."""

    async def take_back(self, counted: Counted) -> None:
        """Uncount an attempt that succeeded. Does nothing if the count has started again since."""

    async def forget_expired(self, *, now_us: int, rows_max: int) -> int:
        """Remove at most `rows_max` counts that no longer matter; gives how many."""


class People(Protocol):
    """Who may sign in, and the links that were mailed to them. Secrets come in as digests.

    A change of credentials (password, email address, second factor, recovery codes, passkeys) ends every outstanding
    link and every other session of the person in the same transaction.
    """

    async def find(self, email: str) -> Person | None:
        """The person of this e-mail address."""

    async def get(self, person_id: str) -> Person:
        """The person of this id. Raises `NotFound`."""

    async def has_operator(self) -> bool:
        """Whether the operator has set up an account."""

    async def register(self, *, email: str, password_hash: str, now_us: int) -> Person:
        """A person who is not verified yet. Of one who is, nothing changes; else the new password counts."""

    async def create_link(
        self,
        *,
        person_id: str | None,
        purpose: LinkPurpose,
        digest: bytes,
        expires_at_us: int,
        email: str | None,
        made_in: bytes | None = None,
    ) -> None:
        """Remember a link; an earlier one of this person for the same purpose works no more. Nobody's are kept all.

        Raises `CredentialsChanged` if the session `made_in` has ended, and `NotFound` without such a person.
        """

    async def find_by_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> Person | None:
        """Whose link it is, if it works; it goes on working."""

    async def has_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        """Whether a link works, also one that belongs to nobody yet; it goes on working."""

    async def use_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        """Use a link up. False when it does not work."""

    async def verify(self, digest: bytes, *, now_us: int, may_open: bool) -> Person | None:
        """Use a link up: its person is verified, and has the account of that address. None if it does not work.

        Without `may_open`, a link does not work for a person who has no account yet.
        """

    async def choose_password(
        self, digest: bytes, *, purpose: LinkPurpose, password_hash: str, now_us: int, may_open: bool
    ) -> Person | None:
        """Use a link up: the new password counts, and the address is proven. None and `may_open` as above."""

    async def set_up(self, digest: bytes, *, email: str, password_hash: str, now_us: int) -> Person | None:
        """Use a set-up link up: the operator, with an account. None as above, or when there is an operator already."""

    async def change_email(self, digest: bytes, *, now_us: int, keep_session: bytes | None) -> Person | None:
        """Use a link up: person and account have the address it was mailed to. None as above, or when that is taken."""

    async def change_password(self, *, person_id: str, password_hash: str, made_in: bytes) -> None:
        """The new password counts. Raises `CredentialsChanged` if the session `made_in` has ended."""

    async def set_time_zone(self, *, person_id: str, time_zone: str) -> None:
        """Remember in which zone this person reads times."""

    async def set_totp(
        self, *, person_id: str, secret: str | None, step: int, recovery_codes: list[bytes], made_in: bytes
    ) -> None:
        """Take a second factor on, used up to the time step `step`, with its recovery codes; None takes it away.

        Raises `AlreadyExists` when one is on already, and `CredentialsChanged` if the session `made_in` has ended.
        """

    async def use_totp_step(self, *, person_id: str, step: int) -> bool:
        """Use the code of a time step up. False when it, or a later one, was used before."""

    async def use_recovery_code(self, *, person_id: str, digest: bytes) -> bool:
        """Use a recovery code up. False when it is none, or was used before."""

    async def recovery_codes_left(self, person_id: str) -> int:
        """How many recovery codes are unused."""

    async def forget_factors(self, person_id: str) -> None:
        """Remove the second factor, the recovery codes and the passkeys."""

    async def forget_stale(self, *, now_us: int, rows_max: int) -> int:
        """Remove links whose time is over, and people who never confirmed and have no link; gives how many rows."""

    async def close_account(self, *, person_id: str, now_us: int) -> None:
        """Close the person's account: its keys are revoked and every session ends. Its ledger stays as it is."""


class Sessions(Protocol):
    """Where people are signed in. The secrets come in as digests."""

    async def begin(
        self, *, person: Person, digest: bytes, agent: str, now_us: int, waits: bool, replaces: bytes | None = None
    ) -> None:
        """Remember that somebody signed in, or, if it `waits`, gave the password and not yet the second factor.

        It `replaces` a session that waited. Raises `CredentialsChanged` if that has ended, or if the credentials have
        changed since `person` was read: a password that was right then proves nothing now.
        """

    async def find(self, digest: bytes, *, now_us: int) -> Session | None:
        """Who is signed in by this session, if it has not ended, waits for nothing, and the account is open."""

    async def waiting(self, digest: bytes, *, now_us: int) -> Person | None:
        """Whose second factor this session waits for, if it does not wait too long already."""

    async def of(self, person_id: str, *, now_us: int) -> list[SessionRecord]:
        """Where a person is signed in, the latest used first."""

    async def end(self, digest: bytes) -> None:
        """Sign out here."""

    async def end_all(self, person_id: str, *, but: bytes | None = None) -> None:
        """Sign out everywhere, or everywhere else."""

    async def forget_ended(self, *, now_us: int) -> None:
        """Remove the sessions whose time is over."""


class Passkeys(Protocol):
    """The public halves of people's passkeys."""

    async def add(self, passkey: Passkey, *, passkeys_max: int, made_in: bytes) -> None:
        """Remember one. Raises `AlreadyExists`, `LimitReached`, or `CredentialsChanged` if `made_in` has ended."""

    async def of(self, person_id: str) -> list[Passkey]:
        """A person's passkeys, oldest first."""

    async def find(self, credential_id: bytes) -> tuple[Passkey, Person] | None:
        """A passkey, and whose it is."""

    async def used(self, credential_id: bytes, *, sign_count: int, now_us: int) -> None:
        """Remember when it was used, and how often it has signed."""

    async def remove(self, *, person_id: str, credential_id: bytes, made_in: bytes) -> None:
        """Forget one of this person's. Raises `CredentialsChanged` if the session `made_in` has ended."""


class Authenticator(Protocol):
    """The protocol that browsers speak with passkeys (W3C Web Authentication, level 3). What they send is JSON text."""

    def creation_options(self, *, person_id: str, email: str, known: list[bytes]) -> tuple[str, bytes]:
        """What a browser needs to make a passkey, and the challenge in it. `known` are the person's other ones."""

    def request_options(self) -> tuple[str, bytes]:
        """What a browser needs to use a passkey, and the challenge in it."""

    def read(self, credential: str) -> tuple[bytes, bytes]:
        """The id and the challenge in what a browser sent. Raises `PasskeyInvalid`; nothing of it is proven yet."""

    def created(self, credential: str, *, challenge: bytes) -> tuple[bytes, bytes, int]:
        """The id, public key and count of a passkey that was made for this challenge. Raises `PasskeyInvalid`."""

    def used(self, credential: str, *, challenge: bytes, passkey: Passkey) -> int:
        """The count of a passkey that has signed this challenge, its user verified. Raises `PasskeyInvalid`."""


class Notices(Protocol):
    """What the owners of accounts want to be told of."""

    async def below(self, account_id: str) -> int | None:
        """The balance, in tokens, below which the owner is told."""

    async def set_below(self, account_id: str, below: int | None) -> None:
        """Tell the owner once each time the balance falls below `below`; None tells nothing."""

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """Accounts that fell below and whose owner is to be told now: each is given once for every crossing."""


class Passwords(Protocol):
    """Hashes and judges passwords, slowly, on a bounded queue that serves no page. All raise `Overloaded`."""

    async def hash(self, password: str) -> str:
        """What to store."""

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password. Takes as long for None and for "", which no password matches."""

    async def guesses(self, password: str, *, known: list[str]) -> int:
        """Estimate how many guesses a person needs who tries likely passwords first, and knows the words `known`."""


class Mailer(Protocol):
    """Sends mail."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Send one message, now or soon. A failure is the operator's to see in the log: whoever asked is not told."""


class Models(Protocol):
    """What the database remembers of the catalogue."""

    async def states(self) -> dict[str, ModelState]:
        """The state of every model ever seen, by id."""

    async def set_enabled(self, *, model: str, enabled: bool) -> ModelState:
        """Enable or disable a model."""

    async def claim_verification(self, *, model: str, request_id: str, now_us: int, exclusive_us: int) -> bool:
        """Remember that the operator is about to send a request: it counts in `Ledger.recent` for a minute.

        False, and nothing is remembered, when one was sent to this model less than `exclusive_us` ago.
        """

    async def record(self, verification: Verification) -> ModelState:
        """Remember a verification, and what follows from it (`ModelState.after`)."""


class Database(Protocol):
    """The database as a whole."""

    async def probe(self) -> None:
        """Prove that a write commits and that the schema is at head. Raises `AccountingFailed` with the reason."""


class RateState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where one key stands: its limit, what is left of it, and the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_seconds: float


class Admission(Protocol):
    """The admission of one request, an async context manager.

    Entering it takes the slots, or raises `RateLimited`, `Overloaded` or `LimiterUnavailable` and takes none. Leaving
    it releases them, however the block ends. A task that is cancelled while it enters holds no slot afterwards.
    """

    dispatched: bool
    """Set it before anything of the request may reach the upstream: the global slot then stays used."""

    @property
    def rate(self) -> RateState:
        """Where the key stands, this request included. Only inside the block."""

    async def __aenter__(self) -> Self:
        """Take the slots."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release them, as `release` does."""

    def is_still_valid(self) -> bool:
        """Whether the request may be sent: checked after its row is committed, before it is sent.

        A limiter that lost its data is filled again from the rows. A request that it admitted earlier, and whose row
        it did not find, must not be sent.
        """

    def release(self) -> None:
        """Release the concurrency slot, and the global slot too unless the request was `dispatched`. Idempotent."""


class Limiter(Protocol):
    """The rate and concurrency decision, exact in every rolling 60 seconds."""

    def admit(self, caller: Caller, *, request_id: str) -> Admission:
        """Key RPM, account concurrency and global RPM as ONE decision, made when the admission is entered.

        A rejection uses up none of the three. `request_id` is the id of the request's row: by it a request is never
        counted twice. `LimiterUnavailable` is raised in under a second.
        """

    def admit_operator(self, *, request_id: str) -> Admission:
        """As `admit`, for a request that the operator makes: it takes a global slot only."""

    async def probe(self) -> None:
        """Prove that it can decide. Raises `LimiterUnavailable` with the reason."""

    def state(self, caller: Caller) -> Awaitable[RateState]:
        """Where the key stands, using nothing up. Raises `LimiterUnavailable`."""


class UpstreamAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an upstream answered, whole: nothing of it is believed yet.

    `retry_after_seconds` is when the upstream accepts requests again, if a 429 says it.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


class Upstream(Protocol):
    """One provider endpoint that we call."""

    @property
    def timeout_seconds(self) -> float:
        """The total deadline of one call."""

    def complete(self, body: bytes) -> Awaitable[UpstreamAnswer]:
        """POST one chat completion and read the whole answer, within the total deadline and the size limit.

        Never follows a redirect, never sends twice. Raises `UpstreamFailed`. When cancelled, it leaves nothing behind.
        """

    def scrub(self, text: str) -> str:
        """`text` without this upstream's secrets: its keys, organisation ids and hosts."""
