"""Mail: through the operator's SMTP server, or printed to the log where there is none."""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

import msgspec
import structlog

from tok0n.domain.email import needs_smtputf8, parse_mailbox

log = structlog.get_logger()

_LINK = re.compile(r"https?://\S+")

WAITING_MAX = 1_000
"""How many messages may be unsent at once, those that wait for another attempt included."""

SENDERS_MAX = 4
"""How many messages are handed in at once, each on a connection of its own."""

ATTEMPTS = 4
PAUSE_SECONDS = 2.0
"""The pause before the second attempt; each further one is five times as long."""


class LogMailer:
    """The `Mailer` port, in the log: the operator passes the links on."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """See `ports.Mailer.send`."""
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
    """Where mail is handed in. `security` is "tls", "starttls" or "none"."""

    host: str
    port: int
    security: str
    sender: str
    username: str | None
    password: str | None
    timeout_seconds: float


class _Unsent(msgspec.Struct, kw_only=True, eq=False):
    """A message that is not handed in yet. `retry` is its timer between two attempts."""

    to: str
    message: EmailMessage
    attempts: int = 0
    retry: asyncio.TimerHandle | None = None


class SmtpMailer:
    """The `Mailer` port, over SMTP: a bounded queue in which no message waits for another's recipient.

    Each message has attempts and pauses of its own. It is dropped, with a line in the log, when the server refuses it
    for good (5xx), when its address needs SMTPUTF8 and the server does not offer it, or after `ATTEMPTS` failures.
    """

    def __init__(
        self, options: SmtpOptions, *, pause_seconds: float = PAUSE_SECONDS, waiting_max: int = WAITING_MAX
    ) -> None:
        self._options = options
        self._pause_seconds = pause_seconds
        self._waiting_max = waiting_max
        self._sender = parse_mailbox(options.sender)
        self._unsent: set[_Unsent] = set()
        self._ready: deque[_Unsent] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """See `ports.Mailer.send`."""
        if len(self._unsent) >= self._waiting_max or self._closed:
            log.error("mail_dropped", to=to, subject=subject, waiting=len(self._unsent))
            return
        unsent = _Unsent(to=to, message=self._write(to=to, subject=subject, text=text))
        self._unsent.add(unsent)
        self._empty.clear()
        self._enqueue(unsent)

    async def sent(self) -> None:
        """Wait until every message was handed in or dropped."""
        await self._empty.wait()

    async def aclose(self) -> None:
        """Stop. What is not handed in yet is dropped, and named in the log."""
        self._closed = True
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        for unsent in list(self._unsent):
            log.error("mail_dropped", to=unsent.to, subject=unsent.message["Subject"], why="shutting down")
            self._forget(unsent)

    def _write(self, *, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._options.sender
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
            task = asyncio.create_task(self._hand_in_ready(), name="mail")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _forget(self, unsent: _Unsent) -> None:
        if unsent.retry is not None:
            unsent.retry.cancel()
        self._unsent.discard(unsent)
        if not self._unsent:
            self._empty.set()

    async def _hand_in_ready(self) -> None:
        while self._ready:
            unsent = self._ready.popleft()
            try:
                await self._hand_in(unsent)
            except Exception as error:  # noqa: BLE001  whatever it is, the next message is another
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
        """Whether another attempt cannot succeed."""
        import aiosmtplib  # noqa: PLC0415  only a server that sends mail needs it

        if isinstance(error, aiosmtplib.SMTPNotSupported):
            return needs_smtputf8(unsent.to)
        if isinstance(error, aiosmtplib.SMTPException | OSError):
            codes = list(_codes(error))
            return bool(codes) and min(codes) >= 500
        return True

    async def _hand_in(self, unsent: _Unsent) -> None:
        """The envelope is ours: no header is parsed to find out who gets the message."""
        import aiosmtplib  # noqa: PLC0415

        options = self._options
        await aiosmtplib.send(
            unsent.message,
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
    """The SMTP reply codes of an error."""
    import aiosmtplib  # noqa: PLC0415

    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        for refused in error.recipients:
            yield refused.code
    elif isinstance(error, aiosmtplib.SMTPResponseException):
        yield error.code
