"""The emails about events: one for each, and a summary for many. Preferences turn off what isn't about security."""

import pytest

from support.fakes import FakeClock
from support.ledgers import NOW_US
from tok0n.domain.key_edits import OPERATOR
from tok0n.domain.notices import DueNotices, Notice, NoticeEvent, NoticeKind
from tok0n.ports.mail import MailBrand
from tok0n.services.event_notices import LISTED_EVENTS_MAX, EventNotices

pytestmark = pytest.mark.anyio

BASE = "https://tok0n.example"
KEY = {"key_id": "key_1", "name": "laptop {x}", "secret": "tk0n_ab…wxyz", "actor": "a@x"}
NOWHERE = {"user_agent": "", "network": ""}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class FakeOutbox:
    """The `NoticeOutbox` port. `due` is claimed once."""

    def __init__(self, due: DueNotices) -> None:
        self._due = [due]

    async def claim_due(self, *, now_us: int) -> list[DueNotices]:
        due, self._due = self._due, []
        return due


class FakeMailer:
    brand = MailBrand()

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    async def send(self, *, to: str, subject: str, text: str) -> None:
        self.sent.append((to, subject, text))


async def email_of(
    event: NoticeEvent, fields: dict[str, str], *, count: int = 1, time_zone: str = "UTC"
) -> tuple[str, str]:
    """Return the subject and the text of the only email about so many events."""
    notice = Notice(event=event, fields=fields, created_at_us=NOW_US)
    due = DueNotices(kind=event.kind, email="a@x", time_zone=time_zone, notices=(notice,) * count)
    mailer = FakeMailer()
    notices = EventNotices(FakeOutbox(due), mailer, FakeClock(), BASE.__add__)
    for _ in range(2):
        await notices.notify()
    ((to, subject, text),) = mailer.sent
    assert to == "a@x"
    return subject, text


async def test_a_new_sign_in_says_when_where_and_in_which_browser() -> None:
    fields = {"user_agent": FIREFOX, "network": "203.0.113.0/24"}
    subject, text = await email_of(NoticeEvent.NEW_SIGN_IN, fields, time_zone="Asia/Kolkata")
    assert subject == "New sign-in to your account"
    assert "(Asia/Kolkata)\nBrowser: Firefox on Linux\nIP network: 203.0.113.0/24\n" in text
    assert f"{BASE}/reset-password" in text
    _, text = await email_of(NoticeEvent.NEW_SIGN_IN, NOWHERE, time_zone="Not/AZone")
    assert "(UTC)\nBrowser: Unknown browser\nIP network: unknown\n" in text


async def test_a_new_key_is_named_with_a_link_to_it() -> None:
    _, text = await email_of(NoticeEvent.KEY_CREATED, KEY)
    assert '"laptop {x}" (tk0n_ab…wxyz) was created at ' in text
    assert "by a@x" in text
    assert f"{BASE}/dashboard/keys/key_1\n" in text
    _, text = await email_of(NoticeEvent.KEY_CREATED, KEY | {"actor": OPERATOR})
    assert " by support." in text


async def test_a_summary_counts_every_event_and_lists_some() -> None:
    subject, text = await email_of(NoticeEvent.KEY_ROTATED, KEY, count=LISTED_EVENTS_MAX + 7)
    assert subject == f"{LISTED_EVENTS_MAX + 7} API keys were created or rotated"
    assert text.count("rotated by a@x") == LISTED_EVENTS_MAX
    assert "and 7 more\n" in text
    subject, _ = await email_of(NoticeEvent.NEW_SIGN_IN, NOWHERE, count=2)
    assert subject == "2 new sign-ins to your account"


@pytest.mark.parametrize("event", list(NoticeEvent))
@pytest.mark.parametrize("count", [1, 2])
async def test_every_event_has_an_email_and_a_summary(event: NoticeEvent, count: int) -> None:
    fields = KEY | {"user_agent": FIREFOX, "network": "", "new_email": "b@x"}
    subject, text = await email_of(event, fields, count=count)
    assert not {"{", "}"} & set((subject + text).replace("{x}", ""))
    assert (event.kind is NoticeKind.SECURITY) == (event not in {"new_sign_in", "key_created", "key_rotated"})
