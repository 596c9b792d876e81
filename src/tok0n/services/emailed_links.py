"""Create the links that emails contain, and send them from background tasks.

A response doesn't wait for its email, so the time it takes never reveals whether an address has an account.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from tok0n.domain.users import (
    INVITATION_LIFETIME_US,
    LINK_LIFETIME_US,
    SECRET_BYTES,
    LinkPurpose,
    SignUpLink,
    User,
    digest,
)
from tok0n.ports.clock import Clock
from tok0n.ports.mail import Mailer
from tok0n.ports.users import Users
from tok0n.services import emails
from tok0n.services.attempts import AttemptLimiter

log = structlog.get_logger()

EMAILS_MAX = 5
EMAILS_SECONDS = 3_600.0
"""A user gets at most `EMAILS_MAX` emails in this time, because anyone can request them."""

_PATHS = {
    LinkPurpose.VERIFY: "/verify",
    LinkPurpose.RESET: "/new-password",
    LinkPurpose.INVITE: "/invitation",
    LinkPurpose.EMAIL: "/new-address",
    LinkPurpose.SET_UP: "/set-up",
}


class EmailedLinks:
    """Stores links and emails them. `url_of` turns a path into a full URL."""

    def __init__(self, users: Users, mailer: Mailer, clock: Clock, url_of: Callable[[str], str]) -> None:
        self._users = users
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of
        self._recent_emails = AttemptLimiter(clock, attempts_max=EMAILS_MAX, seconds=EMAILS_SECONDS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def register(self, *, email: str, password_hash: str, browser_digest: bytes, time_zone: str) -> None:
        """Register a sign-up and email its link, or tell the owner of a verified address that it has an account."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        now_us = self._clock.now_us()
        link = SignUpLink(digest=digest(secret), browser_digest=browser_digest, expires_at_us=now_us + LINK_LIFETIME_US)
        user = await self._users.register(
            email=email, password_hash=password_hash, now_us=now_us, link=link, time_zone=time_zone
        )
        if self._is_throttled(user, LinkPurpose.VERIFY):
            return
        if user.verified_at_us is None:
            url = self._url(LinkPurpose.VERIFY, secret)
            await emails.send(self._mailer, emails.VERIFY, to=email, url=url)
        else:
            urls = {"sign_in": self._url_of("/sign-in"), "reset": self._url_of("/reset-password")}
            await emails.send(self._mailer, emails.ALREADY_REGISTERED, to=email, **urls)

    async def send(self, user: User, purpose: LinkPurpose, mail: tuple[str, str]) -> str | None:
        """Email a link and return its URL. None, and no email, if the user got too many emails recently."""
        if self._is_throttled(user, purpose):
            return None
        url = await self.create_url(user.id, purpose)
        await emails.send(self._mailer, mail, to=user.email, url=url)
        return url

    async def create_url(self, user_id: str | None, purpose: LinkPurpose) -> str:
        """Store a link and return its URL."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        lifetime_us = INVITATION_LIFETIME_US if purpose is LinkPurpose.INVITE else LINK_LIFETIME_US
        await self._users.create_link(
            user_id=user_id,
            purpose=purpose,
            digest=digest(secret),
            expires_at_us=self._clock.now_us() + lifetime_us,
            email=None,
        )
        return self._url(purpose, secret)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task of its own."""
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_until_idle(self) -> None:
        """Wait until all background tasks have finished."""
        await asyncio.gather(*self._tasks)

    def _is_throttled(self, user: User, purpose: LinkPurpose) -> bool:
        if self._recent_emails.count_attempt(user.id) == 0:
            return False
        log.warning("mail_throttled", user=user.id, purpose=purpose)
        return True

    def _url(self, purpose: LinkPurpose, secret: str) -> str:
        return self._url_of(f"{_PATHS[purpose]}?link={secret}")


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("mail_failed")
