"""One browser for all pictures of a process."""

import pytest

from support.browser import shared_browser

browser = pytest.fixture(scope="package", name="browser")(shared_browser)
