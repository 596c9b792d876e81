"""A gateway with pages, a mail server, and users who visit."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateways import Running, running
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
    """A gateway whose mails come to `mailbox`."""
    async with running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as gateway:
        yield gateway


@pytest.fixture
async def visitor(site: Running) -> AsyncIterator[Visitor]:
    """Somebody who is not signed in."""
    async with Visitor(site.url) as visitor:
        yield visitor


@pytest.fixture
async def customer(site: Running, visitor: Visitor, mailbox: Mailbox) -> Visitor:
    """Somebody new who is signed in, as ada@example.com."""
    await join(visitor, mailbox, "ada@example.com")
    return visitor
