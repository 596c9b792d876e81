"""Bursts of attempts through the real server: no more are evaluated than the documented limits allow."""

import asyncio
import html
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pyotp
import pytest

from support import postgres
from support.gateways import Running, running
from support.ledgers import ENGINES
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, mail_settings
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
TOO_MANY, WRONG_PASSWORD = "Too many attempts", "Incorrect email or password"
WRONG_CODE, NO_CODE = "This code is incorrect", "This code is invalid"
GUESSABLE = "too easy to guess"


@pytest.fixture(params=ENGINES)
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> AsyncIterator[Running]:
    overrides = {}
    if request.param == "postgres":
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        overrides["database.url"] = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")
    more = mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as gateway:
        yield gateway


async def burst(
    visitor: Visitor, path: str, fields: list[dict[str, str]], *words: str, page: str | None = None
) -> Counter[str]:
    """Submit the form so many times at once; gives how often each of the words stood in an answer."""
    shown = await visitor.get(page or path)
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"[^>]*>', shown.text)
    filled = {name: html.unescape(value) for name, value in hidden}
    answers = await asyncio.gather(*(visitor.post_raw(path, filled | one) for one in fields))
    assert {answer.status_code for answer in answers} == {422}
    counts = Counter(word for answer in answers for word in words if word in answer.text)
    assert counts.total() == len(fields), "each answer says one of them"
    return counts


async def test_of_30_passwords_at_once_10_are_evaluated(site: Running, customer: Visitor) -> None:
    del customer
    async with Visitor(site.url) as guesser:
        fields = [{"email": ADA, "password": f"guess {number}"} for number in range(30)]
        assert (await burst(guesser, "/sign-in", fields, WRONG_PASSWORD, TOO_MANY))[WRONG_PASSWORD] == 10


async def test_of_20_codes_at_once_6_are_evaluated(site: Running, customer: Visitor) -> None:
    totp = pyotp.TOTP(pyotp.random_base32())
    fields = {"secret": totp.secret, "password": PASSWORD, "code": totp.now()}
    assert (await customer.post("/dashboard/settings/second-factor", fields)).status_code == 200
    async with Visitor(site.url) as guesser:
        await guesser.sign_in(ADA, PASSWORD)
        # Recovery codes cannot be right by chance; they count together with the codes of the app.
        codes = [{"code": f"AAAA-BBBB-{number:04}"} for number in range(20)]
        assert (await burst(guesser, "/second-factor", codes, WRONG_CODE, TOO_MANY))[WRONG_CODE] == 6


async def test_of_30_redeem_codes_at_once_10_are_evaluated(customer: Visitor) -> None:
    codes = [{"code": f"guess {number}"} for number in range(30)]
    counts = await burst(customer, "/dashboard/redeem", codes, NO_CODE, TOO_MANY, page="/dashboard/buy")
    assert counts[NO_CODE] == 10


async def test_of_30_confirmation_passwords_at_once_10_are_evaluated(customer: Visitor) -> None:
    words, path = "Incorrect password", "/dashboard/settings/close"
    passwords = [{"close_password": f"guess {number}"} for number in range(30)]
    assert (await burst(customer, path, passwords, words, TOO_MANY))[words] == 10


async def test_of_40_sign_ups_at_once_30_passwords_are_judged(site: Running, visitor: Visitor) -> None:
    del site
    fields = [{"email": f"user{number}@example.com", "password": "p@ssw0rd" * 9} for number in range(40)]
    assert (await burst(visitor, "/sign-up", fields, GUESSABLE, TOO_MANY))[GUESSABLE] == 30


async def test_an_invalid_set_up_link_is_rejected_before_the_password_is_judged(visitor: Visitor) -> None:
    fields = {"email": ADA, "password": "p@ssw0rd" * 9, "link": "nonsense"}
    answer = await visitor.post("/set-up", fields)
    assert (answer.status_code, GUESSABLE in answer.text) == (410, False)
    assert GUESSABLE in (await visitor.post("/sign-up", fields)).text
