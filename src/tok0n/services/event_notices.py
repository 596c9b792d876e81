"""Email the owner about sign-ins in new browsers, new secrets of keys, and changes of credentials.

The transaction of an event stores its notice, so a crash loses none. An email is recorded before it is sent, so a
crash can lose an email but never sends it twice. A flood of events becomes a few emails and then a summary.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tok0n.domain.key_edits import OPERATOR
from tok0n.domain.notices import DueNotices, Notice, NoticeEvent, NoticeKind
from tok0n.domain.user_agents import browser_name
from tok0n.ports.clock import Clock
from tok0n.ports.mail import Mailer, NoticeOutbox
from tok0n.services import emails

LISTED_EVENTS_MAX = 20
"""The most events that a summary lists. It counts the others."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EMAILS = {
    NoticeEvent.NEW_SIGN_IN: emails.NEW_SIGN_IN,
    NoticeEvent.KEY_CREATED: emails.KEY_CREATED,
    NoticeEvent.KEY_ROTATED: emails.KEY_ROTATED,
    NoticeEvent.PASSWORD_CHANGED: emails.PASSWORD_CHANGED,
    NoticeEvent.TWO_FACTOR_ON: emails.TWO_FACTOR_ON,
    NoticeEvent.TWO_FACTOR_OFF: emails.TWO_FACTOR_OFF,
    NoticeEvent.EMAIL_CHANGED: emails.EMAIL_CHANGED,
}
_SUMMARIES = {
    NoticeKind.SIGN_IN: emails.MANY_SIGN_INS,
    NoticeKind.API_KEY: emails.MANY_KEY_CHANGES,
    NoticeKind.SECURITY: emails.MANY_SECURITY_CHANGES,
}
_LINES = {
    NoticeEvent.NEW_SIGN_IN: "{at}: {browser}, {network}",
    NoticeEvent.KEY_CREATED: '{at}: "{name}" ({secret}) created by {actor}',
    NoticeEvent.KEY_ROTATED: '{at}: "{name}" ({secret}) rotated by {actor}',
    NoticeEvent.PASSWORD_CHANGED: "{at}: password changed",
    NoticeEvent.TWO_FACTOR_ON: "{at}: two-factor authentication turned on",
    NoticeEvent.TWO_FACTOR_OFF: "{at}: two-factor authentication turned off",
    NoticeEvent.EMAIL_CHANGED: "{at}: email changed to {new_email}",
}


class EventNotices:
    """Sends the notices of events. `url_of` turns a path into a full URL."""

    def __init__(self, outbox: NoticeOutbox, mailer: Mailer, clock: Clock, url_of: Callable[[str], str]) -> None:
        self._outbox = outbox
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of

    async def notify(self) -> None:
        """Send the emails that are due."""
        for due in await self._outbox.claim_due(now_us=self._clock.now_us()):
            await self._send(due)

    async def _send(self, due: DueNotices) -> None:
        urls = {
            "reset": self._url_of("/reset-password"),
            "settings": self._url_of("/dashboard/settings"),
            "keys": self._url_of("/dashboard/keys"),
        }
        first, *others = due.notices
        if not others:
            fields = _fields(first, due.time_zone)
            if "key_id" in fields:
                urls["key"] = self._url_of(f"/dashboard/keys/{fields['key_id']}")
            await emails.send(self._mailer, _EMAILS[first.event], to=due.email, **fields | urls)
            return
        listed = due.notices[:LISTED_EVENTS_MAX]
        lines = [_LINES[each.event].format(**_fields(each, due.time_zone)) for each in listed]
        if len(due.notices) > len(listed):
            lines.append(f"and {len(due.notices) - len(listed):,} more")
        events, count = "\n".join(lines), f"{len(due.notices):,}"
        await emails.send(self._mailer, _SUMMARIES[due.kind], to=due.email, events=events, count=count, **urls)


def _fields(notice: Notice, time_zone: str) -> dict[str, str]:
    """Return the details of a notice in words."""
    fields = dict(notice.fields)
    if "user_agent" in fields:
        fields["browser"] = browser_name(fields["user_agent"])
        fields["network"] = fields["network"] or "unknown"
    if fields.get("actor") == OPERATOR:
        fields["actor"] = "support"
    return fields | {"at": _local_time(notice.created_at_us, time_zone)}


def _local_time(at_us: int, time_zone: str) -> str:
    try:
        zone = ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):  # This machine's time zone database doesn't have it.
        zone, time_zone = ZoneInfo("UTC"), "UTC"
    return f"{(_EPOCH + timedelta(microseconds=at_us)).astimezone(zone):%Y-%m-%d %H:%M} ({time_zone})"
