"""One click, one thing: a form that is submitted twice creates one thing, and each submission shows it.

Every submission here is repeated at once, as a double click without script does, and later, as *Back* does.
"""

import asyncio
import html
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pyotp
import pytest

from support import postgres
from support.api_keys import create_key, keys_of
from support.gateways import Running
from support.http import USAGE_TOTAL
from support.ledgers import ENGINES
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, after
from support.shop import shop
from support.users import PASSWORD, join
from support.visitor import Visitor, text_of
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.accounts import ApiKey
from tok0n.domain.forms import SEALED_US
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.api_keys import KEYS_MAX, ApiKeys
from tok0n.services.redeem_codes import create_code

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
CLICKS = 5
TEMPLATES = Path(__file__).parents[2] / "src" / "tok0n" / "web" / "templates"

CREATE_NOTHING = {
    "access.html": {"/dashboard/settings/access"},
    "base.html": {"/sign-out"},
    "choose_password.html": {"{{ path }}"},
    "checklist.html": {"/dashboard/hints"},
    "close.html": {""},
    "key.html": {"/dashboard/keys/{{ key.id }}", "/dashboard/keys/{{ key.id }}/enabled"},
    "key_revoke.html": {""},
    "new_address.html": {"/new-address"},
    "passkeys.html": {"/dashboard/settings/passkeys/remove"},
    "reset_password.html": {""},
    "two_factor.html": {"/second-factor"},
    "two_factor_off.html": {""},
    "set_up.html": {"/set-up"},
    "settings.html": {"/dashboard/settings/export", "/dashboard/settings", "/sign-out"},
    "sign_in.html": {"/sign-in", "/sign-in/passkey"},
    "sign_up.html": {""},
    "time_zone_offer.html": {"/dashboard/hints", "/dashboard/time-zone"},
    "verify.html": {"/verify"},
}
"""Forms without a form_id: what they change is the same when it is changed twice, their link or code works once, or
nobody is signed in yet, so that there is no account to remember a submission for."""

Shop = tuple[Running, StripeDouble]


@pytest.fixture(params=ENGINES)
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> AsyncIterator[Shop]:
    overrides: dict[str, object] = {}
    if request.param == "postgres":
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        overrides["database.url"] = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")
        overrides["database.connect_timeout_seconds"] = 60  # a burst waits for the pool on a busy machine
    async with shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox, overrides=overrides) as opened:
        yield opened


@pytest.fixture
async def ada(opened: Shop, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    async with Visitor(opened[0].url) as ada:
        await join(ada, mailbox, ADA)
        yield ada


async def form_of(visitor: Visitor, page: str) -> dict[str, str]:
    """What is hidden in the forms of a page."""
    shown = await visitor.get(page)
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', shown.text)
    return {name: html.unescape(value) for name, value in hidden}


async def click(visitor: Visitor, path: str, fields: dict[str, str], *, clicks: int = CLICKS) -> list[httpx.Response]:
    """Submit the same form several times at once."""
    return await asyncio.gather(*(visitor.post_raw(path, fields) for _ in range(clicks)))


def secret_in(answer: httpx.Response) -> str:
    found = re.search(r'id="secret"[^>]*>(tk0n_\w+)<', answer.text)
    assert found is not None, text_of(answer)
    return found[1]


def test_every_form_that_creates_something_carries_a_form_id() -> None:
    for template in TEMPLATES.glob("*.html"):
        for form in re.findall(r'<form method="post".*?</form>', template.read_text(), re.DOTALL):
            action = re.search(r'^<form[^>]* action="([^"]*)"', form)
            if "ui.form_id()" not in form:
                assert (action[1].removeprefix("{{ prefix }}") if action else "") in CREATE_NOTHING.get(
                    template.name, set()
                ), (template, form)


async def test_a_form_id_is_new_for_each_form_that_is_shown(ada: Visitor) -> None:
    pages = [await ada.get("/dashboard/buy") for _ in range(2)]
    ids = [form_id for page in pages for form_id in re.findall(r'name="form_id" value="([^"]+)"', page.text)]
    assert len(ids) == len(set(ids)) == 4, "packs and a code, twice"


async def test_a_key_form_creates_one_key_and_every_submission_shows_its_secret(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    fields = await form_of(ada, "/dashboard/keys") | {"name": "laptop"}
    answers = await click(ada, "/dashboard/keys", fields)
    answers.append(await ada.post_raw("/dashboard/keys", fields | {"name": "another name"}))
    assert {answer.status_code for answer in answers} == {200}
    assert len({secret_in(answer) for answer in answers}) == 1
    assert sum("submitted this form more than once" in answer.text for answer in answers) == CLICKS
    (key,) = await keys_of(site.store.accounts, ADA)
    assert key.name == "laptop"
    assert await site.store.callers.find(b"", now_us=0) is None
    await ada.post("/dashboard/keys", {"name": "laptop"})
    assert len(await keys_of(site.store.accounts, ADA)) == 2, "a form that was shown anew is another one"


async def test_a_key_is_shown_for_ten_minutes_and_no_longer(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    fields = await form_of(ada, "/dashboard/keys") | {"name": "laptop"}
    secret = secret_in(await ada.post_raw("/dashboard/keys", fields))
    forms = SqlForms(site.store.database)
    await forms.delete_old(now_us=site.clock.now_us() + SEALED_US)
    later = await ada.post_raw("/dashboard/keys", fields)
    assert later.status_code == 200
    assert secret not in later.text
    assert "We showed this key when you created it" in later.text
    assert len(await keys_of(site.store.accounts, ADA)) == 1


async def test_only_the_browser_that_created_a_key_can_show_it_again(
    opened: Shop, ada: Visitor, mailbox: Mailbox
) -> None:
    site, _ = opened
    created = await ada.post("/dashboard/keys", {"name": "laptop"})
    secret, path = secret_in(created), created.url.path
    assert secret_in(await ada.get(path)) == secret
    for number in range(3):
        await ada.post("/dashboard/keys", {"name": str(number)})
    assert secret_in(await ada.get(path)) == secret, "a browser remembers its latest keys"
    cookie = ada.cookies["tok0n-secrets"]
    assert secret not in cookie
    async with Visitor(site.url) as eve:
        await join(eve, mailbox, "eve@example.com")
        eve.cookies.set("tok0n-secrets", cookie)
        assert (await eve.get(path)).status_code == 404
    for other in ("", "x", cookie.replace("api_key", "other"), cookie.replace("|", ".")):
        ada.cookies.delete("tok0n-secrets")
        ada.cookies.set("tok0n-secrets", other, domain="127.0.0.1")
        without = await ada.get(path)
        assert without.status_code == 200
        assert secret not in without.text
        assert "We showed this key when you created it" in without.text


async def test_parallel_posts_create_no_more_keys_than_allowed(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    for _ in range(KEYS_MAX - 10):
        await create_key(site.store.accounts, ADA)

    async def create(number: int) -> httpx.Response:
        form_id = secrets.token_urlsafe(16)
        fields = {"form_id": form_id, "name": str(number)}
        return await ada.post_raw("/dashboard/keys", fields)

    answers = await asyncio.gather(*(create(number) for number in range(30)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(422)) == (10, 20)
    assert "100 active API keys" in next(answer.text for answer in answers if answer.status_code == 422)
    assert len(await keys_of(site.store.accounts, ADA)) == KEYS_MAX


async def test_a_buy_form_opens_one_order_and_leads_there_until_and_after_it_is_paid(
    opened: Shop, ada: Visitor
) -> None:
    site, double = opened
    fields = await form_of(ada, "/dashboard/buy") | {"pack": "starter"}
    answers = await click(ada, "/dashboard/buy", fields)
    (page,) = {answer.headers["location"] for answer in answers}
    assert page.startswith(f"{double.url}/pay/cs_")
    assert len(double.sessions) == 1
    reused = await form_of(ada, "/dashboard/buy") | {"pack": "starter"}
    assert (await ada.post_raw("/dashboard/buy", reused)).headers["location"] == page, "the same pack"
    double.pay(page.rpartition("/")[2])
    await double.wait_until_delivered()
    for submitted in (fields, reused):
        again = await ada.post_raw("/dashboard/buy", submitted)
        order = await ada.get(again.headers["location"])
        assert "Paid." in order.text, "it leads to the order that it opened"
    assert len(double.sessions) == 1
    account = await site.store.accounts.get(ADA)
    assert len(await site.store.orders.list_for_account(account.id, before=None, rows_max=9)) == 1


async def test_twenty_purchases_at_once_open_one_checkout_for_each_pack(opened: Shop, ada: Visitor) -> None:
    site, double = opened

    async def buy(number: int) -> httpx.Response:
        fields = {"form_id": secrets.token_urlsafe(16), "pack": ("starter", "scale")[number % 2]}
        return await ada.post_raw("/dashboard/buy", fields)

    answers = await asyncio.gather(*(buy(number) for number in range(20)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == len(double.sessions) == 2
    account = await site.store.accounts.get(ADA)
    assert len(await site.store.orders.list_for_account(account.id, before=None, rows_max=9)) == 2


async def test_a_code_form_grants_once_and_every_submission_says_so(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    code = await create_code(site.store.orders, site.clock, tokens=500, uses_max=9, days=1, reason="trial")
    fields = await form_of(ada, "/dashboard/buy") | {"code": code}
    answers = await click(ada, "/dashboard/redeem", fields)
    answers.append(await ada.post_raw("/dashboard/redeem", fields))
    assert all("500 tokens" in text_of(answer) for answer in answers)
    assert (await site.store.accounts.get(ADA)).balance.posted == 500


async def test_a_playground_form_sends_one_request_and_every_submission_shows_its_answer(
    opened: Shop, ada: Visitor, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _ = opened
    await site.store.accounts.grant(email=ADA, tokens=100_000, reason="x", now_us=site.clock.now_us())
    await ada.post("/dashboard/keys", {"name": "k"})
    (key,) = await keys_of(site.store.accounts, ADA)
    may_answer, active = asyncio.Event(), ApiKeys.active
    submissions = 0

    async def counted(self: ApiKeys, account_id: str) -> list[ApiKey]:
        """Count the submissions whose key has been looked up: the playground joins them without another await."""
        nonlocal submissions
        keys = await active(self, account_id)
        submissions += 1
        upstream.changed.set()
        return keys

    upstream.behaviour = after(may_answer, upstream.behaviour)
    fields = await form_of(ada, "/dashboard/playground")
    monkeypatch.setattr(ApiKeys, "active", counted)
    fields |= {"model": "demo", "key": key.id, "user": "Hello!", "limit": "50", "send": "1"}
    clicks = [asyncio.create_task(ada.post_raw("/dashboard/playground", fields)) for _ in range(CLICKS)]
    await upstream.until(lambda: submissions == CLICKS and bool(upstream.requests))
    may_answer.set()
    for answer in await asyncio.gather(*clicks):
        assert "Hello." in text_of(answer)
    later = await ada.post_raw("/dashboard/playground", fields)
    assert "You already sent this form" in text_of(later)
    assert f"Billed {USAGE_TOTAL}" in " ".join(text_of(later).split())
    assert len(upstream.requests) == 1
    assert (await site.store.accounts.get(ADA)).balance.posted == 100_000 - USAGE_TOTAL
    new_form = fields | {"form_id": (await form_of(ada, "/dashboard/playground"))["form_id"]}
    assert "Hello." in text_of(await ada.post_raw("/dashboard/playground", new_form))
    assert len(upstream.requests) == 2


async def test_a_playground_request_that_was_rejected_is_not_sent_again_by_the_same_form(
    opened: Shop, ada: Visitor, upstream: ScriptedUpstream
) -> None:
    site, _ = opened
    await ada.post("/dashboard/keys", {"name": "k"})
    (key,) = await keys_of(site.store.accounts, ADA)
    fields = await form_of(ada, "/dashboard/playground")
    fields |= {"model": "demo", "key": key.id, "user": "Hello!", "limit": "50", "send": "1"}
    assert (await ada.post_raw("/dashboard/playground", fields)).status_code == 402
    await site.store.accounts.grant(email=ADA, tokens=100_000, reason="x", now_us=site.clock.now_us())
    again = " ".join(text_of(await ada.post_raw("/dashboard/playground", fields)).split())
    assert "You already sent this form" in again
    assert "Billed 0" in again
    assert upstream.requests == []


async def test_recovery_codes_are_shown_by_every_submission_and_work(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    fields = await form_of(ada, "/dashboard/settings/second-factor")
    totp = pyotp.TOTP(fields["secret"])
    fields |= {"password": PASSWORD, "code": totp.now()}
    wrong = await ada.post_raw("/dashboard/settings/second-factor", fields | {"password": "wrong"})
    assert wrong.status_code == 422, "what failed is not remembered"
    answers = await click(ada, "/dashboard/settings/second-factor", fields)
    answers.append(await ada.post_raw("/dashboard/settings/second-factor", fields))
    shown = {re.search(r'id="codes"[^>]*>([^<]+)<', answer.text)[1] for answer in answers}  # type: ignore[index]
    assert len(shown) == 1
    codes = shown.pop().split()
    assert len(codes) == 10
    async with Visitor(site.url) as elsewhere:
        await elsewhere.sign_in(ADA, PASSWORD)
        signed_in = await elsewhere.post("/second-factor", {"code": codes[0]})
        assert signed_in.headers["location"] == "/dashboard"
    await SqlForms(site.store.database).delete_old(now_us=site.clock.now_us() + SEALED_US)
    later = await ada.post_raw("/dashboard/settings/second-factor", fields)
    assert "can't show" in html.unescape(later.text)
    assert "Turn off two-factor authentication?" in (await ada.get("/dashboard/settings/second-factor")).text


async def test_recovery_codes_that_no_longer_work_are_not_shown_again(opened: Shop, ada: Visitor) -> None:
    fields = await form_of(ada, "/dashboard/settings/second-factor")
    fields |= {"password": PASSWORD, "code": pyotp.TOTP(fields["secret"]).now()}
    assert "Copy codes" in (await ada.post_raw("/dashboard/settings/second-factor", fields)).text
    off = await ada.post("/dashboard/settings/second-factor", {"change": "end", "password": PASSWORD})
    assert off.status_code == 303
    again = await ada.post_raw("/dashboard/settings/second-factor", fields)
    assert (again.status_code, "This form has expired" in again.text) == (422, True)
    assert "Copy codes" not in again.text


async def test_turning_on_two_factor_authentication_in_two_tabs_keeps_it_on(opened: Shop, ada: Visitor) -> None:
    tabs = [await form_of(ada, "/dashboard/settings/second-factor") for _ in range(2)]
    for fields, status in zip(tabs, (200, 422), strict=True):
        fields |= {"password": PASSWORD, "code": pyotp.TOTP(fields["secret"]).now()}
        assert (await ada.post_raw("/dashboard/settings/second-factor", fields)).status_code == status
    assert "Turn off two-factor authentication?" in (await ada.get("/dashboard/settings/second-factor")).text


async def test_a_key_that_was_revoked_is_not_shown_again(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    fields = await form_of(ada, "/dashboard/keys") | {"name": "laptop"}
    secret = secret_in(await ada.post_raw("/dashboard/keys", fields))
    (key,) = await keys_of(site.store.accounts, ADA)
    await site.store.accounts.revoke_key(account_id=key.account_id, key_id=key.id, now_us=site.clock.now_us())
    again = await ada.post_raw("/dashboard/keys", fields)
    assert "has been revoked" in again.text
    assert secret not in again.text


async def test_a_code_that_would_make_a_balance_too_large_is_refused(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    await site.store.accounts.grant(email=ADA, tokens=TOKENS_MAX, reason="x", now_us=site.clock.now_us())
    code = await create_code(site.store.orders, site.clock, tokens=1, uses_max=1, days=1, reason="trial")
    answer = await ada.post("/dashboard/redeem", {"code": code}, page="/dashboard/buy")
    assert (answer.status_code, f"at most {TOKENS_MAX} tokens" in answer.text) == (422, True)


async def test_a_change_of_address_mails_one_link(opened: Shop, ada: Visitor, mailbox: Mailbox) -> None:
    fields = await form_of(ada, "/dashboard/settings")
    fields |= {"change": "email", "email": "new@example.com", "email_password": PASSWORD}
    answers = await click(ada, "/dashboard/settings", fields)
    assert {answer.headers["location"] for answer in answers} == {"/dashboard/settings#profile"}
    link = await mailbox.take_link("new@example.com")
    assert "Email changed" in (await ada.post("/new-address", {}, page=link)).text


async def test_a_form_without_a_form_id_of_ours_creates_nothing_and_says_what_to_do(opened: Shop, ada: Visitor) -> None:
    site, double = opened
    forms = {
        "/dashboard/keys": {"name": "k"},
        "/dashboard/buy": {"pack": "starter"},
        "/dashboard/redeem": {"code": "AAAA"},
        "/dashboard/settings": {"change": "email", "email": "new@example.com", "email_password": PASSWORD},
    }
    for path, fields in forms.items():
        for form_id in ("", "short", "A" * 23, "A" * 21 + "\x01", "\u00e9" * 22):
            answer = await ada.post_raw(path, {"form_id": form_id} | fields)
            assert (answer.status_code, "Submit it again" in answer.text) == (422, True), (path, form_id)
    assert await keys_of(site.store.accounts, ADA) == []
    assert double.sessions == {}


async def test_the_form_of_another_account_is_no_repetition(opened: Shop, ada: Visitor, mailbox: Mailbox) -> None:
    site, _ = opened
    fields = await form_of(ada, "/dashboard/keys") | {"name": "ada's"}
    secret = secret_in(await ada.post_raw("/dashboard/keys", fields))
    async with Visitor(site.url) as eve:
        await join(eve, mailbox, "eve@example.com")
        stolen = await eve.post_raw("/dashboard/keys", fields)
        assert secret_in(stolen) != secret
