"""What a stolen mailbox or session can do: nothing after its owner has reset the password."""

import re
from pathlib import Path

import pyotp
import pytest

from support.api_keys import keys_of
from support.gateways import Running, running
from support.ledgers import NOW_US
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.users import LinkPurpose, Passkey, Registration, digest

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
NEW = "another few quiet words"
ACCESS = "/dashboard/settings/access"


async def add_passkey(site: Running, visitor: Visitor, name: str) -> Passkey:
    user = await site.store.users.find(ADA)
    assert user is not None
    made = Passkey(
        credential_id=name.encode(),
        user_id=user.id,
        public_key=b"p",
        sign_count=0,
        name=name,
        created_at_us=NOW_US,
        last_used_at_us=None,
    )
    await site.store.passkeys.add(made, passkeys_max=20, session_digest=digest(visitor.cookies["tok0n"]))
    return made


async def reset(visitor: Visitor, mailbox: Mailbox) -> None:
    await visitor.post("/reset-password", {"email": ADA})
    answer = await visitor.post("/new-password", {"password": NEW}, page=await mailbox.take_link(ADA))
    assert answer.headers["location"] == ACCESS


async def test_a_reset_shows_what_remains_and_each_of_it_can_be_removed(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    for name in ("phone", "laptop"):
        await add_passkey(site, customer, name)
    for name in ("production", "mallory's"):
        await customer.post("/dashboard/keys", {"name": name})
    async with Visitor(site.url) as owner:
        await reset(owner, mailbox)
        page = text_of(await owner.get(ACCESS))
        assert all(name in page for name in ("phone", "laptop", "production", "mallory's"))
        removed = await owner.post(ACCESS, {"credential_id": b"phone".hex(), "key_id": ""})
        assert removed.headers["location"] == ACCESS
        keys = {key.name: key for key in await keys_of(site.store.accounts, ADA)}
        await owner.post(ACCESS, {"key_id": keys["mallory's"].id})
        page = text_of(await owner.get(ACCESS))
        assert [name in page for name in ("phone", "laptop", "production", "mallory's")] == [False, True, True, False]
        await owner.post(ACCESS, {"credential_id": b"laptop".hex(), "key_id": ""})
        await owner.post(ACCESS, {"key_id": keys["production"].id})
        assert "Your account has no passkeys and no active API keys." in (await owner.get(ACCESS)).text
        assert [key.is_active(1) for key in await keys_of(site.store.accounts, ADA)] == [False, False]


@pytest.mark.parametrize(
    "fields", [{}, {"credential_id": "no hex"}, {"credential_id": "00"}, {"key_id": "key_nobodys"}]
)
async def test_a_form_that_names_nothing_of_ours_removes_nothing(
    site: Running, customer: Visitor, fields: dict[str, str]
) -> None:
    await add_passkey(site, customer, "phone")
    await customer.post("/dashboard/keys", {"name": "production"})
    answer = await customer.post(ACCESS, {"credential_id": "", "key_id": ""} | fields)
    assert answer.status_code == (404 if "key_id" in fields else 303)
    page = text_of(await customer.get(ACCESS))
    assert "phone" in page
    assert "production" in page


async def test_the_settings_show_the_current_session_first_and_fold_old_ones(site: Running, customer: Visitor) -> None:
    for _ in range(5):
        async with Visitor(site.url) as elsewhere:
            await elsewhere.sign_in(ADA, PASSWORD)
    page = (await customer.get("/dashboard/settings")).text
    shown, folded = re.findall(r'<ul class="session-list" role="list">(.*?)</ul>', page, re.DOTALL)
    assert "This device" in shown.partition("</li>")[0]
    assert (shown.count("<li>"), folded.count("<li>"), "<summary>2 more</summary>" in page) == (4, 2, True)


async def test_a_reset_with_a_second_factor_leads_there_after_the_code(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    secret = pyotp.random_base32()
    fields = {"secret": secret, "password": PASSWORD, "code": pyotp.TOTP(secret).now()}
    shown = await customer.post("/dashboard/settings/second-factor", fields)
    recovery_code = next(word for word in text_of(shown).split() if len(word) == 14 and word.count("-") == 2)
    async with Visitor(site.url) as owner:
        await owner.post("/reset-password", {"email": ADA})
        answer = await owner.post("/new-password", {"password": NEW}, page=await mailbox.take_link(ADA))
        goal = answer.headers["location"]
        assert goal == f"/second-factor?next={ACCESS}"
        answer = await owner.post("/second-factor", {"code": recovery_code}, page=goal)
        assert answer.headers["location"] == ACCESS


async def test_a_link_to_change_the_address_is_dead_after_the_reset_that_its_warning_recommends(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    fields = {"change": "email", "email_password": PASSWORD, "email": "thief@example.com"}
    await customer.post("/dashboard/settings", fields)
    stolen = await mailbox.take_link("thief@example.com")
    assert (await mailbox.take(ADA))["Subject"] == "Your email address is about to change"
    async with Visitor(site.url) as owner:
        await reset(owner, mailbox)
        assert (await customer.post("/new-address", page=stolen)).status_code == 410
        assert (await customer.get("/dashboard")).status_code == 303
        assert (await owner.get("/dashboard")).status_code == 200


async def test_a_reset_link_is_dead_after_a_password_change(site: Running, customer: Visitor, mailbox: Mailbox) -> None:
    await customer.post("/reset-password", {"email": ADA}, page="/reset-password")
    stolen = await mailbox.take_link(ADA)
    answer = await customer.post("/dashboard/settings", {"change": "password", "current": PASSWORD, "password": NEW})
    assert answer.status_code == 303
    async with Visitor(site.url) as thief:
        answer = await thief.post("/new-password", {"password": "words of a thief again"}, page=stolen)
        assert answer.status_code == 410
    assert (await customer.get("/dashboard")).status_code == 200


async def test_the_browser_that_opens_the_link_to_a_new_address_stays_signed_in(
    site: Running, customer: Visitor, mailbox: Mailbox
) -> None:
    async with Visitor(site.url) as elsewhere:
        await elsewhere.sign_in(ADA, PASSWORD)
        fields = {"change": "email", "email_password": PASSWORD, "email": "new@example.com"}
        await customer.post("/dashboard/settings", fields)
        answer = await customer.post("/new-address", page=await mailbox.take_link("new@example.com"))
        assert answer.status_code == 200
        assert (await customer.get("/dashboard")).status_code == 200
        assert (await elsewhere.get("/dashboard")).status_code == 303


PATHS = {LinkPurpose.VERIFY: "/verify", LinkPurpose.RESET: "/new-password", LinkPurpose.INVITE: "/invitation"}


@pytest.mark.parametrize("registration", Registration)
async def test_no_path_opens_an_account_that_registration_does_not_allow(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox, registration: Registration
) -> None:
    more = f'[accounts]\nregistration = "{registration}"\n' + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as visitor:
        store, now_us = site.store, site.clock.now_us()
        existing = {account.email for account in await store.accounts.list_all()}
        opened = set()
        password_hash = await site.sign_in._passwords.hash(PASSWORD)
        for purpose, path in PATHS.items():
            email = f"{purpose}@example.com"
            user = await store.users.register(email=email, password_hash=password_hash, now_us=now_us)
            await store.users.create_link(
                user_id=user.id,
                purpose=purpose,
                digest=digest(purpose),
                expires_at_us=now_us + 60_000_000,
                email=None,
            )
            answer = await visitor.post(path, {"password": PASSWORD}, page=f"{path}?link={purpose}")
            if answer.status_code == 303:
                opened.add(purpose)
            else:
                assert (answer.status_code, "You need an invitation" in text_of(answer)) == (422, True)
        assert opened == {purpose for purpose in PATHS if registration.may_open(purpose)}
        emails = {account.email for account in await store.accounts.list_all()}
        assert emails == existing | {f"{purpose}@example.com" for purpose in opened}
        for purpose in set(PATHS) - opened:
            async with Visitor(site.url) as invitee:
                answer = await invitee.post("/reset-password", {"email": f"{purpose}@example.com"})
                assert answer.status_code == 200, "as for an address that nobody has"
                assert (await invitee.sign_in(f"{purpose}@example.com", PASSWORD)).status_code == 422
        await site.sign_in.wait_until_idle()
        assert mailbox.waiting == []


async def test_who_has_an_account_resets_the_password_where_registration_is_closed(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = '[accounts]\nregistration = "closed"\n' + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as visitor:
        user = await site.store.users.register(email=ADA, password_hash="", now_us=NOW_US)
        link = {"user_id": user.id, "expires_at_us": site.clock.now_us() + 60_000_000, "email": None}
        await site.store.users.create_link(**link, purpose=LinkPurpose.VERIFY, digest=b"v")  # type: ignore[arg-type]
        await site.store.users.verify(b"v", now_us=site.clock.now_us(), may_open=True)
        await reset(visitor, mailbox)
        assert (await visitor.get(ACCESS)).status_code == 200
