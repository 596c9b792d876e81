"""One browser for the tests of a file; each test has windows of its own, with no past."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from support.browser import chromium
from support.gateways import ServerProcess

expect.set_options(timeout=20_000)
"""As long as a page may take on a busy machine. A test waits only until it sees what it expects."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[ServerProcess]:
    """The demo in a process of its own, with every endpoint and streams."""
    folder = tmp_path_factory.mktemp("demo")
    async with ServerProcess(folder, "--streaming", "--data", str(folder / "data"), command="demo") as demo:
        yield demo
