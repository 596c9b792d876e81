"""Users who use the pages of a gateway."""

from support.mailbox import Mailbox
from support.visitor import Visitor

PASSWORD = "plenty of quiet rivers"


def mail_settings(mailbox: Mailbox) -> str:
    """The section that sends mails there."""
    return f"""
[mail]
host = "127.0.0.1"
port = {mailbox.port}
security = "none"
sender = "Tok0n <noreply@tok0n.example>"
"""


async def join(visitor: Visitor, mailbox: Mailbox, email: str, password: str = PASSWORD) -> None:
    """Sign up, and confirm the address."""
    answer = await visitor.post("/sign-up", {"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    answer = await visitor.get(await mailbox.take_link(email))
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard"), answer.text
