"""Handing mail in to a server that wants TLS and a password, and one that is never there."""

import asyncio
import ssl

import pytest
import structlog
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from support.mailbox import Mailbox
from tok0n.adapters.mail import ATTEMPTS, SmtpMailer, SmtpOptions
from tok0n.ports.mail import MailBrand

pytestmark = pytest.mark.anyio


class Handler:
    """Keeps what comes, and over what."""

    def __init__(self) -> None:
        self.came: list[tuple[bool, bool, str]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's
        assert isinstance(envelope.content, bytes)
        self.came.append((session.ssl is not None, bool(session.authenticated), envelope.content.decode()))
        return "250 OK"


def let_in(server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth: object) -> AuthResult:
    assert isinstance(auth, LoginPassword)
    return AuthResult(success=(auth.login, auth.password) == (b"tok0n", b"secret"), handled=False)


def options(port: int, **more: object) -> SmtpOptions:
    given = {"security": "starttls", "username": "tok0n", "password": "secret"} | more
    return SmtpOptions(host="localhost", port=port, sender="Tok0n <t@example.com>", timeout_seconds=5, **given)  # type: ignore[arg-type]


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for localhost that the mailer trusts; gives the server's half."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    monkeypatch.setattr(ssl, "create_default_context", lambda: client)
    return server


async def test_a_mail_goes_over_starttls_with_the_password(contexts: ssl.SSLContext) -> None:
    handler = Handler()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, loop=loop, tls_context=contexts, authenticator=let_in, auth_required=True), "localhost", 0
    )
    mailer = SmtpMailer(options(server.sockets[0].getsockname()[1]), MailBrand())
    await mailer.send(to="ada@example.com", subject="Gr\u00fc\u00dfe", text="Caf\u00e9 https://example.com/a\n")
    await mailer.sent()
    await mailer.aclose()
    server.close()
    ((over_tls, authenticated, content),) = handler.came
    assert (over_tls, authenticated) == (True, True)
    assert "To: ada@example.com" in content


@pytest.mark.parametrize("why", ["wrong password", "not there", "certificate of another"])
async def test_a_mail_that_cannot_be_sent_is_named_in_the_log_without_its_text(
    contexts: ssl.SSLContext, why: str
) -> None:
    loop = asyncio.get_running_loop()
    if why == "certificate of another":
        contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("localhost").configure_cert(contexts)
    server = await loop.create_server(
        lambda: SMTP(Handler(), loop=loop, tls_context=contexts, authenticator=let_in), "localhost", 0
    )
    port = server.sockets[0].getsockname()[1]
    if why == "not there":
        server.close()
        await server.wait_closed()
    mailer = SmtpMailer(
        options(port, password="wrong" if why == "wrong password" else "secret"), MailBrand(), pause_seconds=0
    )
    with structlog.testing.capture_logs() as logs:
        await mailer.send(to="ada@example.com", subject="s", text="a secret link")
        await mailer.sent()
    await mailer.aclose()
    server.close()
    assert logs[-1]["event"] == "mail_failed"
    assert logs[-1]["to"] == "ada@example.com"
    assert "a secret link" not in str(logs)


def plain(port: int) -> SmtpOptions:
    return options(port, security="none", username=None, password=None)


@pytest.mark.parametrize("answer", ["450 4.2.1 try later", "550 5.1.1 no such user", "552 5.2.2 full"])
async def test_no_mail_waits_for_another_recipient(answer: str) -> None:
    async with Mailbox() as mailbox:
        mailer = SmtpMailer(plain(mailbox.port), MailBrand())
        mailbox.rejects = {f"late{n}@example.com": answer for n in range(40)}
        for to in [*mailbox.rejects, "jos\u00e9@example.com", "ada@example.com"]:
            await mailer.send(to=to, subject="s", text="t")
        await mailbox.take("ada@example.com")
        await mailer.aclose()
        assert mailbox.waiting == []


async def test_a_temporary_failure_is_retried_and_a_permanent_one_is_not() -> None:
    async with Mailbox() as mailbox:
        mailer = SmtpMailer(plain(mailbox.port), MailBrand(), pause_seconds=0)
        mailbox.rejects = {"later@example.com": "450 later", "never@example.com": "550 never"}
        with structlog.testing.capture_logs() as logs:
            for to in (*mailbox.rejects, "jos\u00e9@example.com"):
                await mailer.send(to=to, subject="s", text="a secret link")
            await mailer.sent()
        await mailer.aclose()
        assert sorted(mailbox.rejected) == ["later@example.com"] * ATTEMPTS + ["never@example.com"]
        failed = {line["to"] for line in logs if line["event"] == "mail_failed"}
        assert failed == {"later@example.com", "never@example.com", "jos\u00e9@example.com"}
        assert [line["to"] for line in logs if line["event"] == "mail_delayed"] == ["later@example.com"] * 3
        assert "a secret link" not in str(logs)


async def test_a_local_part_beyond_ascii_is_reached_where_the_server_offers_smtputf8() -> None:
    async with Mailbox(offers_smtputf8=True) as mailbox:
        mailer = SmtpMailer(plain(mailbox.port), MailBrand())
        await mailer.send(to="jos\u00e9@xn--mnchen-3ya.de", subject="s", text="t")
        await mailer.sent()
        await mailer.aclose()
        assert len(mailbox.waiting) == 1


async def test_the_queue_is_bounded_and_what_is_dropped_is_named() -> None:
    async with Mailbox() as mailbox:
        mailer = SmtpMailer(plain(mailbox.port), MailBrand(), waiting_max=3)
        mailbox.rejects = {f"late{n}@example.com": "450 later" for n in range(5)}
        with structlog.testing.capture_logs() as logs:
            for to in mailbox.rejects:
                await mailer.send(to=to, subject="s", text="t")
            await mailer.aclose()
        dropped = [line["to"] for line in logs if line["event"] == "mail_dropped"]
        assert sorted(dropped) == sorted(mailbox.rejects)
        await mailer.sent()
