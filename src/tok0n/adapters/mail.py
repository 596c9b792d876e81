"""Mail that is printed to the log: for an installation without a mail server, whose operator passes the links on."""

import structlog

log = structlog.get_logger()


class LogMailer:
    """The `Mailer` port, in the log."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """See `ports.Mailer.send`."""
        log.warning("mail_not_sent", to=to, subject=subject, text=text, why="there is no mail server in the settings")
