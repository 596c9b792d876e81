"""Signing up, in and out, as a customer without script sees it, with a real mail server."""

import asyncio
import re
from pathlib import Path

import pyotp
import pytest

from support.gateways import EMAIL, Running, running, tok0n, tok0n_json
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.adapters.passwords import Argon2Passwords
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.bootstrap import services
from tok0n.services.two_factor import STEP_SECONDS

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"


async def test_a_new_customer_signs_up_confirms_and_is_in(site: Running, visitor: Visitor, mailbox: Mailbox) -> None:
    await join(visitor, mailbox, ADA)
    overview = await visitor.get("/dashboard")
    assert overview.status_code == 200
    assert "Get started" in overview.text
    assert (await site.store.accounts.get(ADA)).balance.posted == 0


async def test_a_link_confirms_nothing_in_another_browser_without_the_password(
    site: Running, visitor: Visitor, mailbox: Mailbox
) -> None:
    await visitor.post("/sign-up", {"email": ADA, "password": PASSWORD})
    link = await mailbox.take_link(ADA)
    secret = link.partition("link=")[2]
    async with Visitor(site.url) as elsewhere:
        answer = await elsewhere.post("/verify", {"password": "not the password", "link": secret}, page=link)
        assert (answer.status_code, "tok0n" in elsewhere.cookies) == (422, False)
        answer = await elsewhere.post("/verify", {"password": PASSWORD, "link": secret}, page=link)
        assert answer.headers["location"] == "/dashboard"
        again = await elsewhere.post("/verify", {"password": PASSWORD, "link": secret}, page=link)
        assert again.status_code == 410


async def test_an_account_of_the_operator_becomes_that_of_whoever_reads_its_mail(
    site: Running, visitor: Visitor, mailbox: Mailbox
) -> None:
    before = await site.account()
    await join(visitor, mailbox, EMAIL)
    assert f"{before.balance.available:,}" in (await visitor.get("/dashboard")).text
    assert (await site.account()).id == before.id


async def test_known_and_unknown_addresses_are_answered_alike(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    del customer
    async with Visitor(site.url) as stranger:
        for path, name, fields in (
            ("/sign-up", "eve", {"password": PASSWORD}),
            ("/reset-password", "bob", {}),
            ("/sign-in", "bob", {"password": "a wrong password"}),
        ):
            known = await stranger.post(path, {"email": ADA, **fields})
            unknown = await stranger.post(path, {"email": f"{name}@example.com", **fields})
            assert known.status_code == unknown.status_code
            assert scrubbed(known.text) == scrubbed(unknown.text), path
    assert (await mailbox.take(ADA))["Subject"] == "You already have an account"
    assert (await mailbox.take(ADA))["Subject"] == "Reset your password"
    assert (await mailbox.take("eve@example.com"))["Subject"] == "Confirm your email address"
    await site.sign_in.wait_until_idle()
    assert mailbox.waiting == []


def scrubbed(text: str) -> str:
    """A page without the address that was sent, and without its token."""
    return re.sub(r'"[0-9a-f]{64}"|\w+@example', "", text)


async def test_who_guesses_is_throttled_and_locks_nobody_out(site: Running, customer: Visitor) -> None:
    await customer.post("/sign-out", page="/dashboard")
    guesser = {"x-forwarded-for": "203.0.113.9"}
    async with Visitor(site.url) as stranger:
        answers = [
            await stranger.post("/sign-in", {"email": ADA, "password": f"guess {number}"}, headers=guesser)
            for number in range(11)
        ]
        assert "Incorrect email or password" in answers[9].text
        assert "Too many attempts" in answers[10].text
        answer = await stranger.post("/sign-in", {"email": ADA, "password": PASSWORD}, headers=guesser)
        assert "Too many attempts" in answer.text, "the right password is not told from a wrong one"
    assert (await customer.sign_in(ADA, PASSWORD)).status_code == 303


@pytest.mark.parametrize(
    "forwarded",
    [
        "203.0.113.9:47{number:02}",
        "[2001:db8::{number}]:443",
        "2001:db8:0:0:{number}::1",
        "198.51.100.{number}, 192.0.2.1",
    ],
)
async def test_neither_ports_nor_addresses_of_one_64_nor_a_clients_own_header_evade_the_throttle(
    site: Running, visitor: Visitor, forwarded: str
) -> None:
    for number in range(10, 21):
        headers = {"x-forwarded-for": forwarded.format(number=number)}
        answer = await visitor.post("/sign-in", {"email": ADA, "password": "x"}, headers=headers)
    assert "Too many attempts" in answer.text


async def test_only_a_trusted_proxy_tells_the_clients_address(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = "[server]\ntrusted_proxies = []\n" + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as visitor:
        for number in range(11):
            headers = {"x-forwarded-for": f"203.0.113.{number}"}
            answer = await visitor.post("/sign-in", {"email": ADA, "password": "x"}, headers=headers)
        assert "Too many attempts" in answer.text


async def test_a_session_is_new_at_each_sign_in_and_works_no_more_after_signing_out(
    site: Running, customer: Visitor
) -> None:
    first = customer.cookies["tok0n"]
    assert (await customer.post("/sign-out", page="/dashboard")).status_code == 303
    async with Visitor(site.url) as thief:
        thief.cookies.set("tok0n", first)
        assert (await thief.get("/dashboard")).status_code == 303
    await customer.sign_in(ADA, PASSWORD)
    assert customer.cookies["tok0n"] != first


async def test_signing_out_everywhere_ends_every_session(site: Running, customer: Visitor) -> None:
    async with Visitor(site.url) as elsewhere:
        await elsewhere.sign_in(ADA, PASSWORD)
        assert (await elsewhere.get("/dashboard")).status_code == 200
        await customer.post("/sign-out", {"everywhere": "1"}, page="/dashboard/settings")
        assert (await elsewhere.get("/dashboard")).status_code == 303


async def test_a_password_is_reset_by_mail_and_old_sessions_end(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    async with Visitor(site.url) as elsewhere:
        await elsewhere.post("/reset-password", {"email": ADA})
        link = await mailbox.take_link(ADA)
        secret = link.partition("link=")[2]
        new = "another few quiet words"
        answer = await elsewhere.post("/new-password", {"password": new}, page=link)
        assert answer.headers["location"] == "/dashboard/settings/access"
        assert (await customer.get("/dashboard")).status_code == 303
        assert (await customer.sign_in(ADA, PASSWORD)).status_code == 422
        assert (await customer.sign_in(ADA, new)).status_code == 303
        again = await elsewhere.post("/new-password", {"link": secret, "password": new}, page=link)
        assert again.status_code == 410


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "at least 10"),
        ("password123", "too easy to guess"),
        ("1234567890", "too easy to guess"),
        ("ada@example.com", "too easy to guess"),
        ("x" * 201, "at most 200"),
    ],
)
async def test_a_bad_password_is_refused_with_the_reason(visitor: Visitor, password: str, words: str) -> None:
    answer = await visitor.post("/sign-up", {"email": ADA, "password": password})
    assert answer.status_code == 422
    assert words in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert password not in answer.text or password == ADA, "a password is never sent back"


async def test_a_second_factor_is_asked_for_and_its_codes_work_once(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    page = await customer.get("/dashboard/settings/second-factor")
    secret = re.findall(r'<p class="secret">(\w+)</p>', page.text)[0]
    totp = pyotp.TOTP(secret)
    fields = {"secret": secret, "password": PASSWORD, "code": totp.now()}
    wrong = await customer.post("/dashboard/settings/second-factor", fields | {"code": "000000"})
    assert wrong.status_code == 422
    assert secret in wrong.text, "the same secret again, for the app that has it"
    begun = await customer.post("/dashboard/settings/second-factor", fields)
    codes = re.findall(r"[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}", begun.text)
    assert len(codes) == 10

    async with Visitor(site.url) as elsewhere:
        answer = await elsewhere.sign_in(ADA, PASSWORD)
        assert answer.headers["location"] == "/second-factor?next=/dashboard"
        assert (await elsewhere.get("/dashboard")).status_code == 303, "the password alone is not enough"
        used = await elsewhere.post("/second-factor", {"code": fields["code"]})
        assert "already used" in used.text
        waiting = elsewhere.cookies["tok0n"]
        following = totp.at(site.clock.now_us() // 1_000_000 + STEP_SECONDS)
        answer = await elsewhere.post("/second-factor", {"code": following})
        assert answer.headers["location"] == "/dashboard"
        assert elsewhere.cookies["tok0n"] != waiting
        assert (await elsewhere.get("/dashboard")).status_code == 200

    for expected in (303, 422):
        async with Visitor(site.url) as elsewhere:
            await elsewhere.sign_in(ADA, PASSWORD)
            answer = await elsewhere.post("/second-factor", {"code": codes[0].lower()})
            assert answer.status_code == expected

    async with Visitor(site.url) as elsewhere:
        await elsewhere.post("/reset-password", {"email": ADA})
        link = await mailbox.take_link(ADA)
        fields = {"link": link.partition("link=")[2], "password": "another few quiet words"}
        answer = await elsewhere.post("/new-password", fields, page=link)
        assert answer.headers["location"].startswith("/second-factor"), "a mailbox is not the second factor"


async def test_codes_cannot_be_guessed_for_long(site: Running, customer: Visitor) -> None:
    secret = pyotp.random_base32()
    fields = {"secret": secret, "password": PASSWORD, "code": pyotp.TOTP(secret).now()}
    assert (await customer.post("/dashboard/settings/second-factor", fields)).status_code == 200
    async with Visitor(site.url) as guesser:
        await guesser.sign_in(ADA, PASSWORD)
        answers = [await guesser.post("/second-factor", {"code": f"{number:06}"}) for number in range(7)]
    assert "Too many attempts" in answers[-1].text


async def test_the_password_is_asked_for_before_what_matters(customer: Visitor) -> None:
    for path, fields in (
        ("/dashboard/settings", {"change": "password", "current": "wrong", "password": "another few quiet words"}),
        ("/dashboard/settings", {"change": "email", "email_password": "wrong", "email": "new@example.com"}),
        ("/dashboard/settings/close", {"close_password": "wrong"}),
    ):
        answer = await customer.post(path, fields)
        assert (answer.status_code, "Incorrect password" in answer.text) == (422, True), fields


async def test_a_changed_password_ends_other_sessions_and_is_told_by_mail(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    new = "another few quiet words"
    async with Visitor(site.url) as elsewhere:
        await elsewhere.sign_in(ADA, PASSWORD)
        fields = {"change": "password", "current": PASSWORD, "password": new}
        answer = await customer.post("/dashboard/settings", fields)
        assert answer.headers["location"] == "/dashboard/settings#password"
        assert (await elsewhere.get("/dashboard")).status_code == 303
        assert (await customer.get("/dashboard")).status_code == 200
    subjects = {str((await mailbox.take(ADA))["Subject"]) for _ in range(2)}
    assert subjects == {"New sign-in to your account", "Your password was changed"}, "in either order"


async def test_an_address_changes_once_the_new_one_is_proven(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    fields = {"change": "email", "email_password": PASSWORD, "email": "New@Example.com"}
    await customer.post("/dashboard/settings", fields)
    assert (await mailbox.take(ADA))["Subject"] == "Your email address is about to change"
    link = await mailbox.take_link("new@example.com")
    assert (await site.store.accounts.get(ADA)).status == "open", "not before"
    answer = await customer.post("/new-address", page=link)
    assert "Sign in as new@example.com" in answer.text
    async with Visitor(site.url) as elsewhere:
        assert (await elsewhere.sign_in(ADA, PASSWORD)).status_code == 422
        assert (await elsewhere.sign_in("new@example.com", PASSWORD)).status_code == 303


async def test_a_closed_account_lets_nobody_in(site: Running, customer: Visitor, mailbox: Mailbox) -> None:
    answer = await customer.post("/dashboard/settings/close", {"close_password": PASSWORD})
    assert answer.headers["location"] == "/"
    answer = await customer.sign_in(ADA, PASSWORD)
    assert (answer.status_code, "account is closed" in answer.text) == (422, True)
    await customer.post("/reset-password", {"email": ADA})
    await site.sign_in.wait_until_idle()
    assert mailbox.waiting == []
    assert (await customer.get("/dashboard")).status_code == 303
    assert (await site.store.accounts.get(ADA)).status == "closed"


@pytest.mark.parametrize("registration", ["invite", "closed"])
async def test_sign_up_is_for_whom_the_operator_lets_in(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox, registration: str
) -> None:
    more = f'[accounts]\nregistration = "{registration}"\n' + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as visitor:
        answer = await visitor.post("/sign-up", {"email": ADA, "password": PASSWORD}, page="/sign-in")
        assert (answer.status_code, "need an invitation" in answer.text) == (403, True)
        assert 'href="/sign-up"' not in (await visitor.get("/")).text
        if registration == "closed":
            refused = await asyncio.to_thread(tok0n, "accounts", "invite", ADA, cwd=tmp_path)
            assert (refused.returncode, '"closed"' in refused.stderr) == (1, True)
            return
        printed = await asyncio.to_thread(tok0n_json, "accounts", "invite", ADA, cwd=tmp_path)
        mailed = await mailbox.take_link(ADA)
        assert printed["link"].endswith(mailed)
        assert (await visitor.sign_in(ADA, "")).status_code == 422, "nobody is in without having chosen a password"
        answer = await visitor.post("/invitation", {"password": PASSWORD}, page=mailed)
        assert answer.headers["location"] == "/dashboard"
        again = await asyncio.to_thread(tok0n, "accounts", "invite", ADA, cwd=tmp_path)
        assert "can already sign in" in again.stderr


async def test_a_password_is_the_same_however_its_letters_are_composed(
    site: Running, visitor: Visitor, mailbox: Mailbox
) -> None:
    await join(visitor, mailbox, ADA, "caf\u00e9 rivers and hills")
    async with Visitor(site.url) as elsewhere:
        assert (await elsewhere.sign_in(ADA, "cafe\u0301 rivers and hills")).status_code == 303


async def test_the_operators_account_is_set_up_by_a_link_that_works_once(site: Running, visitor: Visitor) -> None:
    url = await site.sign_in.create_set_up_url()
    assert url is not None
    path = url[url.index("/set-up") :]
    fields = {"email": "op@example.com", "password": PASSWORD}
    assert (await visitor.post("/set-up", fields | {"link": "x"}, page=path)).status_code == 410
    assert (await visitor.post("/set-up", fields, page=path)).headers["location"] == "/dashboard"
    assert await site.sign_in.create_set_up_url() is None
    assert (await visitor.post("/set-up", fields, page=path)).status_code == 410
    user = await site.store.users.find("op@example.com")
    assert user is not None
    assert user.is_operator


async def test_a_mailbox_cannot_be_flooded(site: Running, visitor: Visitor, mailbox: Mailbox) -> None:
    for _ in range(8):
        await visitor.post("/sign-up", {"email": ADA, "password": PASSWORD})
    await site.sign_in.wait_until_idle()
    for _ in range(5):
        await mailbox.take(ADA)
    assert mailbox.waiting == []


async def test_an_email_that_the_server_defers_is_retried(visitor: Visitor, mailbox: Mailbox) -> None:
    mailbox.refuse_with = "451 try again later"
    await visitor.post("/sign-up", {"email": ADA, "password": PASSWORD})
    mail = await mailbox.take(ADA)
    assert mailbox.refusals == 1
    assert (mail["From"], mail["Auto-Submitted"]) == ("Tok0n <noreply@tok0n.example>", "auto-generated")


@pytest.fixture
def owasp_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway hashes as it does outside tests."""
    monkeypatch.setattr(services, "Argon2Passwords", Argon2Passwords)


async def test_no_password_session_or_link_is_in_the_database(
    owasp_passwords: None, site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    await customer.post("/reset-password", {"email": ADA})
    link = (await mailbox.take_link(ADA)).partition("link=")[2]
    assert isinstance(site.store.database, SqliteStore)
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    for secret in (PASSWORD, customer.cookies["tok0n"], link):
        assert secret.encode() not in stored
    assert b"$argon2id$v=19$m=19456,t=2,p=1$" in stored


async def test_signing_in_leads_back_to_where_one_was_but_never_away(customer: Visitor) -> None:
    await customer.post("/sign-out", page="/dashboard")
    answer = await customer.get("/dashboard/usage?last=30d")
    assert answer.headers["location"] == "/sign-in?next=/dashboard/usage%3Flast%3D30d"
    for goal in ("https://evil.example", "//evil.example", "/\\evil.example", "/\tevil", "javascript:alert(1)"):
        answer = await customer.post("/sign-in", {"email": ADA, "password": PASSWORD, "next": goal})
        assert answer.headers["location"] == "/dashboard", goal
        await customer.post("/sign-out", page="/dashboard")
    answer = await customer.post("/sign-in", {"email": ADA, "password": PASSWORD, "next": "/dashboard/keys"})
    assert answer.headers["location"] == "/dashboard/keys"
    assert "Where you are signed in" in text_of(await customer.get("/dashboard/settings"))


async def test_somebody_who_lost_the_second_factor_is_let_in_by_the_operator(site: Running, customer: Visitor) -> None:
    secret = pyotp.random_base32()
    fields = {"secret": secret, "password": PASSWORD, "code": pyotp.TOTP(secret).now()}
    assert (await customer.post("/dashboard/settings/second-factor", fields)).status_code == 200
    unknown = await asyncio.to_thread(tok0n, "accounts", "recover", "nobody@example.com", cwd=site.folder)
    assert (unknown.returncode, "can't sign in yet" in unknown.stderr) == (1, True)
    printed = await asyncio.to_thread(tok0n_json, "accounts", "recover", ADA, cwd=site.folder)
    assert (await customer.get("/dashboard")).status_code == 303, "every session has ended"
    link = printed["link"].partition("/new-password")[2]
    answer = await customer.post("/new-password", {"password": "another few quiet words"}, page=f"/new-password{link}")
    assert answer.headers["location"] == "/dashboard/settings/access"
