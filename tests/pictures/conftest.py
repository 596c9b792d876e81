"""One browser and one gateway for all pictures of a process."""

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
