"""One browser and one demo for the tests of a process; each test has windows of its own, with no history."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from support.browser import shared_browser
from support.gateways import ServerProcess

expect.set_options(timeout=20_000)
"""As long as a page may take on a busy machine. A test waits only until it sees what it expects."""

browser = pytest.fixture(scope="package", name="browser")(shared_browser)


@pytest.fixture(scope="package")
async def demo(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[ServerProcess]:
    """The demo in a process of its own, with every endpoint and streams. Other tests may have used it before."""
    folder = tmp_path_factory.mktemp("demo")
    async with ServerProcess(folder, "--streaming", "--data", str(folder / "data"), command="demo") as demo:
        yield demo
