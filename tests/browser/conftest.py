"""One browser for the tests of a file; each test has windows of its own, with no past."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from support.browser import chromium


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser
