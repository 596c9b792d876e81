"""One browser for the tests of a file; each test has windows of its own, with no past."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from support.browser import chromium

expect.set_options(timeout=20_000)
"""As long as a page may take on a busy machine. A test waits only until it sees what it expects."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser
