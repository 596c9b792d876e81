"""Pages below a path, in a real browser behind a real nginx that passes the path on, or strips it."""

from pathlib import Path

import pytest

from support.browser import Look, chromium, tab
from support.free_ports import free_port
from support.gateways import running
from support.mailbox import Mailbox
from support.proxies import BELOW_A_PATH, proxy
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, mail_settings

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
PAGES = ("", "/keys", "/requests", "/usage", "/statement", "/playground", "/settings")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", BELOW_A_PATH)
async def test_a_customer_signs_up_opens_pages_and_makes_a_key_below_a_path(
    name: str, width: int, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/tok0n"
    look = Look(scheme="light", width=width, script=True)
    overrides = {"server.public_url": url}
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox), overrides=overrides) as site,
        proxy(name, tmp_path, upstream_port=int(site.url.rpartition(":")[2]), port=port),
        chromium() as browser,
        tab(browser, url, look) as visit,
    ):
        requested: list[str] = []
        visit.page.on("request", lambda request: requested.append(request.url))
        await visit.go("/")
        await visit.go("/sign-up")
        await visit.fill(email=ADA, password=PASSWORD)
        await visit.press("Sign up")
        link = await mailbox.take_link(ADA)
        await visit.go(link.removeprefix("/tok0n"))
        assert visit.page.url == f"{url}/dashboard"
        for page in PAGES:
            await visit.go(f"/dashboard{page}")
            assert visit.page.url == f"{url}/dashboard{page}"
        await visit.go("/dashboard/keys")
        await visit.fill(name="first")
        await visit.press("Create key")
        assert await visit.text("#secret")
        await visit.sign_out()
        await visit.page.wait_for_url(f"{url}/")
        await visit.go("/dashboard/keys")
        await visit.fill(email=ADA, password=PASSWORD)
        await visit.press("Sign in")
        assert visit.page.url == f"{url}/dashboard/keys"
        cookies = await visit.page.context.cookies()
        assert {cookie["name"] for cookie in cookies} == {"tok0n", "tok0n-device", "tok0n-secrets"}
        assert {cookie["path"] for cookie in cookies} == {"/tok0n"}
        assert [address for address in requested if not address.startswith(f"{url}/")] == []
