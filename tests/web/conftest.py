"""A gateway with pages, a mail server, and users who visit."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateways import EMAIL, Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import join, mail_settings
from support.visitor import Visitor


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture
async def site(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    """A gateway that sends its email to `mailbox`."""
    async with running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as gateway:
        yield gateway


@pytest.fixture
async def visitor(site: Running) -> AsyncIterator[Visitor]:
    """A browser that is not signed in."""
    async with Visitor(site.url) as visitor:
        yield visitor


@pytest.fixture
async def customer(site: Running, visitor: Visitor, mailbox: Mailbox) -> Visitor:
    """A new user who is signed in as ada@example.com."""
    await join(visitor, mailbox, "ada@example.com")
    return visitor


@pytest.fixture
async def owner(site: Running, visitor: Visitor, mailbox: Mailbox) -> Visitor:
    """The user who owns the gateway's first account, with its million tokens and its key."""
    await join(visitor, mailbox, EMAIL)
    return visitor


@pytest.fixture
async def stranger(site: Running, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    """Another user, signed in."""
    async with Visitor(site.url) as stranger:
        await join(stranger, mailbox, "eve@example.com")
        yield stranger
