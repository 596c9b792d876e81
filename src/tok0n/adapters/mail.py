"""Send email through the operator's SMTP server, or write it to the log if none is configured."""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Iterator
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

import msgspec
import structlog

from tok0n.domain.email import needs_smtputf8, parse_mailbox
from tok0n.ports.mail import MailBrand

log = structlog.get_logger()

_LINK = re.compile(r"https?://\S+")

WAITING_MAX = 1_000
"""The most unsent messages, including those that wait for a retry."""

SENDERS_MAX = 4
"""The most SMTP connections at once. Each sends one message."""

ATTEMPTS = 4
PAUSE_SECONDS = 2.0
"""The delay before the second attempt. Each further delay is five times as long."""


class LogMailer:
    """The `Mailer` port without a mail server. The operator finds the links in the log."""

    def __init__(self, brand: MailBrand) -> None:
        self.brand = brand

    async def send(self, *, to: str, subject: str, text: str) -> None:
        link = _LINK.search(text)
        log.warning(
            "mail_not_sent",
            why="no mail server is configured",
            to=to,
            subject=subject,
            link=None if link is None else link[0],
            text=text,
        )


class SmtpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's SMTP server. `security` is "tls", "starttls" or "none".

    `sender` is an address with an optional name. Without one, messages come from the brand's name.
    """

    host: str
    port: int
    security: str
    sender: str
    username: str | None
    password: str | None
    timeout_seconds: float


class _Unsent(msgspec.Struct, kw_only=True, eq=False):
    """An unsent message. `retry` is its timer between two attempts."""

    to: str
    message: EmailMessage
    attempts: int = 0
    retry: asyncio.TimerHandle | None = None


class SmtpMailer:
    """The `Mailer` port over SMTP, with a bounded queue. A message that fails doesn't delay the others.

    Each message has its own attempts and delays. It is dropped, with a log line, if the server rejects it permanently
    (5xx), if its address needs SMTPUTF8 and the server doesn't support it, or after `ATTEMPTS` failures.
    """

    def __init__(
        self,
        options: SmtpOptions,
        brand: MailBrand,
        *,
        pause_seconds: float = PAUSE_SECONDS,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.brand = brand
        self._options = options
        self._pause_seconds = pause_seconds
        self._waiting_max = waiting_max
        self._sender = parse_mailbox(options.sender)
        self._from = options.sender if "<" in options.sender else Address(brand.name, addr_spec=self._sender)
        self._unsent: set[_Unsent] = set()
        self._ready: deque[_Unsent] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    async def send(self, *, to: str, subject: str, text: str) -> None:
        if len(self._unsent) >= self._waiting_max or self._closed:
            log.error("mail_dropped", to=to, subject=subject, waiting=len(self._unsent))
            return
        unsent = _Unsent(to=to, message=self._write(to=to, subject=subject, text=text))
        self._unsent.add(unsent)
        self._empty.clear()
        self._enqueue(unsent)

    async def sent(self) -> None:
        """Wait until every message is sent or dropped."""
        await self._empty.wait()

    async def aclose(self) -> None:
        """Stop sending. Drops and logs unsent messages."""
        self._closed = True
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        for unsent in list(self._unsent):
            log.error("mail_dropped", to=unsent.to, subject=unsent.message["Subject"], why="shutting down")
            self._forget(unsent)

    def _write(self, *, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._from
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate(localtime=False)
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message

    def _enqueue(self, unsent: _Unsent) -> None:
        unsent.retry = None
        self._ready.append(unsent)
        if len(self._sending) < SENDERS_MAX and not self._closed:
            task = asyncio.create_task(self._deliver_ready(), name="mail")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _forget(self, unsent: _Unsent) -> None:
        if unsent.retry is not None:
            unsent.retry.cancel()
        self._unsent.discard(unsent)
        if not self._unsent:
            self._empty.set()

    async def _deliver_ready(self) -> None:
        while self._ready:
            unsent = self._ready.popleft()
            try:
                await self._deliver(unsent)
            except Exception as error:  # noqa: BLE001  no error may stop the other messages
                self._retry_or_drop(unsent, error)
            else:
                self._forget(unsent)

    def _retry_or_drop(self, unsent: _Unsent, error: Exception) -> None:
        unsent.attempts += 1
        if unsent.attempts >= ATTEMPTS or self._is_permanent(unsent, error):
            log.error("mail_failed", to=unsent.to, subject=unsent.message["Subject"], error=str(error))
            self._forget(unsent)
            return
        log.warning("mail_delayed", to=unsent.to, error=str(error))
        pause_seconds = self._pause_seconds * 5 ** (unsent.attempts - 1)
        unsent.retry = asyncio.get_running_loop().call_later(pause_seconds, self._enqueue, unsent)

    @staticmethod
    def _is_permanent(unsent: _Unsent, error: Exception) -> bool:
        """Whether another attempt would fail too."""
        import aiosmtplib  # noqa: PLC0415  only a server that sends email needs it

        if isinstance(error, aiosmtplib.SMTPNotSupported):
            return needs_smtputf8(unsent.to)
        if isinstance(error, aiosmtplib.SMTPException | OSError):
            codes = list(_codes(error))
            return bool(codes) and min(codes) >= 500
        return True

    async def _deliver(self, unsent: _Unsent) -> None:
        import aiosmtplib  # noqa: PLC0415

        options = self._options
        await aiosmtplib.send(
            unsent.message,
            # An explicit envelope: aiosmtplib must not parse headers to find the recipients.
            sender=self._sender,
            recipients=[unsent.to],
            hostname=options.host,
            port=options.port,
            username=options.username,
            password=options.password,
            timeout=options.timeout_seconds,
            use_tls=options.security == "tls",
            start_tls=options.security == "starttls",
            tls_context=None if options.security == "none" else ssl.create_default_context(),
        )


def _codes(error: Exception) -> Iterator[int]:
    """Yield the SMTP reply codes of an error."""
    import aiosmtplib  # noqa: PLC0415

    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        for recipient in error.recipients:
            yield recipient.code
    elif isinstance(error, aiosmtplib.SMTPResponseException):
        yield error.code
