"""What an account's owner is told about: kinds of notices, the events behind them, and alerts of low balances."""

from enum import StrEnum

import msgspec

from tok0n.domain.ledger import STANDARD

BALANCE_ALERTS_MAX = 5
"""The most balances of an account that alert its owner."""

EMAILS_PER_HOUR_MAX = 5
"""The most emails about events of one kind that an account gets in an hour. The rest arrives as one summary."""

SUMMARY_EVENTS_MAX = 1_000
"""The most events that one summary counts."""

HOUR_US = 3_600_000_000


class NoticeKind(StrEnum):
    """A kind of notice, which the owner can turn off unless it is about security."""

    LOW_BALANCE = "low_balance"
    BUDGET = "budget"
    PURCHASE = "purchase"
    SIGN_IN = "sign_in"
    API_KEY = "api_key"
    SECURITY = "security"


OPTIONAL_KINDS = tuple(kind for kind in NoticeKind if kind is not NoticeKind.SECURITY)
"""The kinds that an owner can turn off."""


class NoticeChannel(StrEnum):
    """A way to send notices."""

    EMAIL = "email"


class NoticeEvent(StrEnum):
    """An event that is sent as a notice of its kind."""

    NEW_SIGN_IN = "new_sign_in"
    KEY_CREATED = "key_created"
    KEY_ROTATED = "key_rotated"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    TWO_FACTOR_ON = "two_factor_on"
    TWO_FACTOR_OFF = "two_factor_off"
    EMAIL_CHANGED = "email_changed"

    @property
    def kind(self) -> NoticeKind:
        """The kind of notice that tells the owner about the event."""
        return _KINDS.get(self, NoticeKind.SECURITY)


_KINDS = {
    NoticeEvent.NEW_SIGN_IN: NoticeKind.SIGN_IN,
    NoticeEvent.KEY_CREATED: NoticeKind.API_KEY,
    NoticeEvent.KEY_ROTATED: NoticeKind.API_KEY,
}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event to tell the owner about. `fields` has its details as text, never a secret."""

    event: NoticeEvent
    fields: dict[str, str]
    created_at_us: int


class DueNotices(msgspec.Struct, frozen=True, kw_only=True):
    """The notices of one email, oldest first. More than one makes it a summary. `time_zone` is the owner's."""

    kind: NoticeKind
    email: str
    time_zone: str
    notices: tuple[Notice, ...]


class BalanceAlert(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A balance of one token class, in tokens, below which the owner gets an email."""

    threshold_tokens: int
    token_class: str = STANDARD


class LowBalance(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose balance of one token class fell below an alert. Amounts are tokens."""

    account_id: str
    email: str
    token_class: str
    threshold_tokens: int
    posted: int
