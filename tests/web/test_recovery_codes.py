"""The page of new recovery codes: who sees them again, and for how long."""

import html
import re

import pyotp
import pytest

from support.gateways import Running
from support.users import PASSWORD
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
SWITCH, CODES = "/dashboard/settings/second-factor", "/dashboard/settings/recovery-codes"
GONE = "can't show them again"


async def turn_on(customer: Visitor) -> pyotp.TOTP:
    """Turn on two-factor authentication, and return what the app has."""
    totp = pyotp.TOTP(re.findall(r'<p class="secret">(\w+)</p>', (await customer.get(SWITCH)).text)[0])
    fields = {"secret": totp.secret, "password": PASSWORD, "code": totp.now()}
    created = await customer.post(SWITCH, fields)
    assert created.url.path == CODES
    assert "Copy codes" in created.text
    return totp


async def test_only_the_browser_that_created_recovery_codes_can_show_them_again(
    site: Running, customer: Visitor
) -> None:
    assert "Turn it on to get recovery codes." in (await customer.get(CODES)).text
    totp = await turn_on(customer)
    assert "Copy codes" in (await customer.get(CODES)).text
    async with Visitor(site.url) as elsewhere:
        await elsewhere.sign_in(ADA, PASSWORD)
        following = totp.at(site.clock.now_us() // 1_000_000 + totp.interval)
        assert (await elsewhere.post("/second-factor", {"code": following})).headers["location"] == "/dashboard"
        assert GONE in html.unescape((await elsewhere.get(CODES)).text)


async def test_recovery_codes_from_before_it_was_turned_off_and_on_are_not_shown(customer: Visitor) -> None:
    await turn_on(customer)
    first = customer.cookies["tok0n-secrets"]
    await customer.post(SWITCH, {"change": "end", "password": PASSWORD})
    await turn_on(customer)
    customer.cookies.delete("tok0n-secrets")
    customer.cookies.set("tok0n-secrets", first, domain="127.0.0.1")
    assert GONE in html.unescape((await customer.get(CODES)).text)
