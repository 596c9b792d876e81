"""A gateway with the longest names and the largest numbers, whose pages tests look at in a browser."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from support import extreme_account
from support.extreme_account import LONG_MODEL
from support.gateways import Running
from support.mailbox import Mailbox
from support.pages import paths
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import join
from support.visitor import Visitor
from tok0n.demo.stripe_double import StripeDouble
from tok0n.ports.clock import Clock

OWNER = "a.person.with.a.very.long.email.address@subdomain.example.com"
QUERIES = (
    "/dashboard/requests?status=settled&last=30d",
    "/dashboard/usage?last=30d&by=key",
    "/dashboard/usage?last=30d&by=key&show=latency",
    "/dashboard/usage?last=30d&show=errors",
    "/no-such-page",
)
"""Paths beside those of the routes."""


class ExtremeSite(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway, what it is connected to, and the session cookie of the user who owns the extreme data."""

    url: str
    running: Running
    mailbox: Mailbox
    stripe: StripeDouble
    data: extreme_account.ExtremeAccount
    cookie: str

    @property
    def pages(self) -> dict[str, str]:
        """The path of a page of each GET route, by the route's path, without files."""
        data = self.data
        names = {name: f"{{{name}}}" for name in ("key", "request", "order", "model")}
        routes = paths(self.running, method="GET", **names)
        found = paths(
            self.running, method="GET", key=data.key, request=data.request, order=data.order, model=LONG_MODEL
        )
        return {route: path for route, path in zip(routes, found, strict=True) if not is_file(route)}

    @property
    def paths(self) -> list[str]:
        """The paths of all pages, without files."""
        receipts = [f"/dashboard/requests/{request}" for request in self.data.others]
        return list(dict.fromkeys([*self.pages.values(), *receipts, *QUERIES]))


@contextlib.asynccontextmanager
async def extreme_site(
    folder: Path, *, clock: Clock | None = None, overrides: dict[str, object] | None = None
) -> AsyncIterator[ExtremeSite]:
    """Open the gateway, with every component on /dev/components, and fill an account."""
    async with (
        ScriptedUpstream() as upstream,
        Mailbox() as mailbox,
        shop(
            folder,
            upstream_url=upstream.base_url,
            mailbox=mailbox,
            more=extreme_account.SETTINGS,
            overrides=overrides,
            shows_components=True,
            clock=clock,
        ) as (running, stripe),
        Visitor(running.url) as visitor,
    ):
        await join(visitor, mailbox, OWNER)
        data = extreme_account.fill(folder / "tok0n.db", email=OWNER, now_us=running.clock.now_us())
        yield ExtremeSite(
            url=running.url, running=running, mailbox=mailbox, stripe=stripe, data=data, cookie=session_of(visitor)
        )


def session_of(visitor: Visitor) -> str:
    """Return the session cookie of a visitor who is signed in."""
    return next(value for name, value in visitor.cookies.items() if name.endswith("tok0n"))


def is_private(path: str) -> bool:
    """Whether a page needs a session."""
    return path.startswith("/dashboard")


def is_file(path: str) -> bool:
    """Whether a path is that of a file, such as a CSV export, and not of a page."""
    return "." in path.rpartition("/")[2]
