"""A mail server for tests: it takes everything, and lets a test wait for the next mail to somebody."""

import asyncio
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

SECONDS_MAX = 10


class Mailbox:
    """Listens on a free port from entering the context to leaving it."""

    def __init__(self, *, offers_smtputf8: bool = False) -> None:
        self._offers_smtputf8 = offers_smtputf8
        self.rejects: dict[str, str] = {}
        """The answer to RCPT for an address."""
        self.rejected: list[str] = []
        self._mails: list[EmailMessage] = []
        self._came = asyncio.Condition()
        self.refuse_with: str | None = None
        self.refusals = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, loop=loop, enable_SMTPUTF8=self._offers_smtputf8), "127.0.0.1", 0
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def handle_RCPT(  # noqa: N802  aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.rejects:
            self.rejected.append(address)
            return self.rejects[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's
        if self.refuse_with is not None:
            self.refusals += 1
            answer, self.refuse_with = self.refuse_with, None
            return answer
        assert isinstance(envelope.content, bytes)
        async with self._came:
            self._mails.append(message_from_bytes(envelope.content, policy=policy.default))
            self._came.notify_all()
        return "250 OK"

    async def take(self, to: str, *, containing: str = "") -> EmailMessage:
        """The oldest mail to this address that was not taken yet, waiting for it.

        Mails of different tasks, such as a notice and a link, may come in any order: `containing` selects among them.
        """

        def found() -> EmailMessage | None:
            mails = (mail for mail in self._mails if mail["To"] == to)
            return next((mail for mail in mails if containing in mail.get_content()), None)

        async with asyncio.timeout(SECONDS_MAX), self._came:
            await self._came.wait_for(lambda: found() is not None)
            mail = found()
            assert mail is not None
            self._mails.remove(mail)
            return mail

    async def take_link(self, to: str) -> str:
        """The path and query of the next mailed link to this address."""
        text = (await self.take(to, containing="link=")).get_content()
        found = re.search(r"https?://[^/\s]+(/\S+)", text)
        assert found is not None, text
        return found[1]

    @property
    def waiting(self) -> list[str]:
        """Whom the mails that were not taken are to."""
        return [str(mail["To"]) for mail in self._mails]
