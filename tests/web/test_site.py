"""[site]: every page and every email shows the operator's brand, and none shows Tok0n's."""

import contextlib
import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import segno

import tok0n
from support.gateways import Running, running
from support.mailbox import Mailbox
from support.pages import paths
from support.scripted_upstream import ScriptedUpstream
from support.users import join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.services.operate_accounts import OperateAccounts

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
HTML = {"accept": "text/html"}
LOGO = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>'
NAME = 'Acme & "Sons"'
SITE = """
[site]
name = 'Acme & "Sons"'
tagline = "Tokens <for> everybody."
accent_color = "#8a3fa0"
support_email = "support@acme.example"
terms_url = "https://acme.example/terms"
privacy_url = "https://acme.example/privacy?a=1&b=2"
imprint_url = "https://acme.example/imprint"
"""


@contextlib.asynccontextmanager
async def branded(
    folder: Path, upstream: ScriptedUpstream, mailbox: Mailbox, site: str = SITE, mail: str | None = None
) -> AsyncIterator[tuple[Running, Visitor]]:
    """A gateway with a brand, and a visitor who has signed up."""
    more = site + (mail_settings(mailbox) if mail is None else mail)
    async with running(folder, upstream_url=upstream.base_url, more=more) as gateway, Visitor(gateway.url) as visitor:
        await join(visitor, mailbox, ADA)
        yield gateway, visitor


async def test_every_page_has_the_name_and_the_links(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with branded(tmp_path, upstream, mailbox) as (gateway, visitor), Visitor(gateway.url) as stranger:
        seen = 0
        for path in [*paths(gateway, method="GET"), "/no-such-page"]:
            for browser in (visitor, stranger):
                answer = await browser.get(path, headers=HTML)
                if not answer.headers.get("content-type", "").startswith("text/html") or answer.is_redirect:
                    continue
                seen += 1
                title = re.search("<title>(.*?)</title>", answer.text)
                assert title is not None
                assert html.unescape(title[1]).count(NAME) == 1, path
                assert html.unescape(title[1]).endswith(f" · {NAME}") or path == "/", path
                assert "Tok0n" not in title[1], path
                page = " ".join(text_of(answer).split())
                assert "Tokens <for> everybody." in page
                assert 'href="https://acme.example/terms">Terms<' in answer.text
                assert 'href="https://acme.example/privacy?a=1&amp;b=2">Privacy<' in answer.text
                assert 'href="https://acme.example/imprint">Imprint<' in answer.text
                assert 'href="mailto:support@acme.example"' in answer.text
                assert page.endswith("Powered by Tok0n"), path
                assert "Tok0n" not in page.removesuffix("Powered by Tok0n"), path
                assert "og:image" not in answer.text, "the picture shows Tok0n"
        assert seen > 30


async def test_the_default_brand_is_tok0n_without_thanks_to_itself(gateway: Running) -> None:
    async with Visitor(gateway.url) as visitor:
        answer = await visitor.get("/")
        assert "Every token accounted for." in answer.text
        assert "Powered by" not in answer.text
        assert "accent.css" not in answer.text
        assert 'property="og:image"' in answer.text
        assert (await visitor.get("/assets/accent.css")).status_code == 404


async def test_powered_by_can_be_turned_off(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> None:
    site = SITE + "show_powered_by = false\n"
    async with branded(tmp_path, upstream, mailbox, site) as (_, visitor):
        assert "Tok0n" not in text_of(await visitor.get("/"))


@pytest.mark.parametrize(
    ("suffix", "media_type"), [("svg", "image/svg+xml"), ("png", "image/png"), ("SVG", "image/svg+xml")]
)
async def test_a_logo_is_the_header_and_the_icon(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox, suffix: str, media_type: str
) -> None:
    (tmp_path / f"mark.{suffix}").write_bytes(LOGO)
    async with branded(tmp_path, upstream, mailbox, f'{SITE}logo = "mark.{suffix}"\n') as (_, visitor):
        page = await visitor.get("/dashboard")
        shown = re.search(r'<a class="brand"[^>]*><img src="([^"]+)" alt="Acme &amp; [^"]*Sons[^"]*"', page.text)
        icon = re.search(r'<link rel="icon" href="([^"]+)"', page.text)
        assert shown is not None
        assert icon is not None
        assert shown[1] == icon[1]
        assert (await visitor.get("/favicon.ico")).headers["location"] == icon[1]
        answer = await visitor.get(shown[1])
        assert (answer.content, answer.headers["content-type"]) == (LOGO, media_type)
        assert "default-src 'none'" in answer.headers["content-security-policy"], "a script in an SVG never runs"


async def test_the_accent_color_is_a_style_sheet_after_the_default_one(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with branded(tmp_path, upstream, mailbox) as (_, visitor):
        page = await visitor.get("/")
        sheets = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        assert [re.sub(r"\?.*", "", sheet.rpartition("/")[2]) for sheet in sheets[:2]] == ["tok0n.css", "accent.css"]
        css = await visitor.get(sheets[1])
        assert css.headers["content-type"].startswith("text/css")
        assert "--accent:light-dark(#8a3fa0," in css.text


async def test_errors_and_suspended_accounts_lead_to_support(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with branded(tmp_path, upstream, mailbox) as (gateway, visitor):
        for path in ("/no-such-page", "/dashboard/requests/req_1"):
            answer = await visitor.get(path, headers=HTML)
            assert answer.status_code == 404
            assert "Need help? Write to support@acme.example" in " ".join(text_of(answer).split())
        operate = OperateAccounts(gateway.store.accounts, gateway.clock, corrections=gateway.store.corrections)
        await operate.suspend(ADA, reason="fraud")
        page = " ".join(text_of(await visitor.get("/dashboard")).split())
        assert "This account is suspended." in page
        assert "Contact support: support@acme.example" in page


async def test_emails_name_the_site_and_its_support(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    mail = mail_settings(mailbox).replace("Tok0n <noreply@tok0n.example>", "noreply@acme.example")
    async with branded(tmp_path, upstream, mailbox, mail=mail) as (gateway, visitor):
        await visitor.post("/sign-up", {"email": ADA, "password": "plenty of quiet rivers"})
        again = await mailbox.take(ADA)
        assert NAME in again.get_content()
        assert again.get_content().splitlines()[-2:] == ["", "Need help? Write to support@acme.example."]
        sender = again["From"].addresses[0]
        assert (sender.display_name, sender.addr_spec) == (NAME, "noreply@acme.example")
        await gateway.sign_in.invite("new@example.com")
        invitation = await mailbox.take("new@example.com")
        assert invitation["Subject"] == f"You're invited to {NAME}"
        assert "Tok0n" not in invitation.as_string()


async def test_the_senders_own_name_stays(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> None:
    async with branded(tmp_path, upstream, mailbox) as (_, visitor):
        await visitor.post("/sign-up", {"email": ADA, "password": "plenty of quiet rivers"})
        assert (await mailbox.take(ADA))["From"] == "Tok0n <noreply@tok0n.example>"


async def test_an_authenticator_app_shows_the_sites_name(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris: list[str] = []
    make = segno.make

    def record(uri: str, **more: Any) -> segno.QRCode:
        uris.append(uri)
        return make(uri, **more)

    monkeypatch.setattr(segno, "make", record)
    async with branded(tmp_path, upstream, mailbox) as (_, visitor):
        await visitor.get("/dashboard/settings/second-factor")
    assert "issuer=Acme%20%26%20%22Sons%22" in uris[0]


async def test_llms_txt_and_the_docs_name_the_site(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with branded(tmp_path, upstream, mailbox) as (_, visitor):
        assert (await visitor.get("/llms.txt")).text.startswith(f"# {NAME}\n")
        faq = (await visitor.get("/docs/faq.md")).text
        assert f"Why does {NAME} reserve" in faq
        assert "Tok0n" not in faq


def test_no_template_names_tok0n_but_in_thanks() -> None:
    templates = Path(tok0n.__file__).parent / "web" / "templates"
    found = [
        line.strip() for path in templates.glob("*.html") for line in path.read_text().splitlines() if "Tok0n" in line
    ]
    assert [line for line in found if "Powered by" not in line] == []
