"""Mail: through the operator's SMTP server, or printed to the log where there is none."""

import asyncio
import re
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING

import msgspec
import structlog

from tok0n.lazily import Lazily

if TYPE_CHECKING:
    import aiosmtplib
else:
    aiosmtplib = Lazily("aiosmtplib")

log = structlog.get_logger()

_LINK = re.compile(r"https?://\S+")

WAITING_MAX = 1_000
ATTEMPTS = 4
PAUSE_SECONDS = 2.0
"""The pause before the second attempt; each further one is five times as long."""


class LogMailer:
    """The `Mailer` port, in the log: whoever operates Tok0n passes the links on."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """See `ports.Mailer.send`."""
        link = _LINK.search(text)
        log.warning(
            "mail_not_sent",
            why="there is no mail server in the settings",
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


CANCEL_SECONDS = 0.1


class SmtpMailer:
    """The `Mailer` port, over SMTP: queued, one at a time, tried again when the server is away."""

    def __init__(self, options: SmtpOptions) -> None:
        self._options = options
        self._queue: asyncio.Queue[EmailMessage] = asyncio.Queue(WAITING_MAX)
        self._task = asyncio.create_task(self._work())

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """See `ports.Mailer.send`."""
        message = EmailMessage()
        message["From"] = self._options.sender
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate(localtime=False)
        message["Message-ID"] = make_msgid(domain=self._options.sender.rpartition("@")[2].rstrip(">"))
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            log.error("mail_dropped", to=to, subject=subject, waiting=WAITING_MAX)

    async def sent(self) -> None:
        """Wait until nothing waits to be sent."""
        await self._queue.join()

    async def aclose(self) -> None:
        """Stop; what waits is not sent, and named in the log."""
        while not self._task.done():
            # More than once: asyncio.wait_for, inside aiosmtplib, may swallow a cancellation (CPython issue 86296).
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_SECONDS)
        while not self._queue.empty():
            message = self._queue.get_nowait()
            log.error("mail_dropped", to=message["To"], subject=message["Subject"], why="shutting down")

    async def _work(self) -> None:
        while True:
            message = await self._queue.get()
            try:
                await self._deliver(message)
            except Exception as error:  # noqa: BLE001  whatever it is, the next mail is another
                log.error("mail_failed", to=message["To"], subject=message["Subject"], error=str(error))
            finally:
                self._queue.task_done()

    async def _deliver(self, message: EmailMessage) -> None:
        for attempt in range(ATTEMPTS):
            try:
                await self._hand_in(message)
            except (aiosmtplib.SMTPException, OSError) as error:
                permanent = isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 500
                if permanent or attempt == ATTEMPTS - 1:
                    raise
                log.warning("mail_delayed", to=message["To"], error=str(error))
                await asyncio.sleep(PAUSE_SECONDS * 5**attempt)
            else:
                return

    async def _hand_in(self, message: EmailMessage) -> None:
        options = self._options
        await aiosmtplib.send(
            message,
            hostname=options.host,
            port=options.port,
            username=options.username,
            password=options.password,
            timeout=options.timeout_seconds,
            use_tls=options.security == "tls",
            start_tls=options.security == "starttls",
            tls_context=None if options.security == "none" else ssl.create_default_context(),
        )
