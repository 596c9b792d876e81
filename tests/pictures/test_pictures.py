"""Every page looks like its reference: at 390 and 1440 px, light and dark, and in each state.

`make test-pictures` runs these tests. `TOK0N_PICTURES=write make test-pictures` renews the references that differ.
"""

from collections.abc import AsyncIterator

import msgspec
import pytest
from playwright.async_api import Browser

from support.extreme_site import ExtremeSite, extreme_site
from support.fakes import FakeClock
from support.picture_accounts import Accounts, open_accounts
from support.picture_camera import Camera, camera, looks_of
from support.picture_shots import NOT_PICTURED, Shot, name_of, shots_of
from support.pictures import (
    BLOCK_LEVEL_MAX,
    IS_RENEWING,
    REFERENCES,
    STRICT_LEVEL_MAX,
    PictureTools,
    explain,
    open_tools,
)

pytestmark = pytest.mark.anyio

SHARES = 12
"""The number of tests that share the pictures, so that they can run in parallel."""

PUBLIC_URL = "http://localhost:8000"
"""Pages show this URL, whatever the port of the test is."""


class Set(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway whose clock stands still, and the shots of its pages."""

    site: ExtremeSite
    accounts: Accounts
    shots: list[Shot]


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Set]:
    clock = FakeClock()
    overrides: dict[str, object] = {"server.public_url": PUBLIC_URL}
    async with extreme_site(tmp_path_factory.mktemp("pictures"), clock=clock, overrides=overrides) as site:
        accounts = await open_accounts(site, clock)
        yield Set(site=site, accounts=accounts, shots=shots_of(site, accounts))


@pytest.fixture(scope="module")
async def tools(browser: Browser) -> AsyncIterator[PictureTools]:
    page = await browser.new_page()
    yield await open_tools(page)
    await page.close()


@pytest.mark.parametrize("share", range(SHARES))
async def test_every_page_looks_like_its_reference(
    browser: Browser, opened: Set, tools: PictureTools, share: int
) -> None:
    faults: list[str] = []
    async with camera(browser, opened.site, opened.accounts) as taking:
        for shot in opened.shots[share::SHARES]:
            faults += await _check(taking, tools, shot)
    assert faults == [], explain(faults)


async def _check(taking: Camera, tools: PictureTools, shot: Shot) -> list[str]:
    await taking.open(shot)
    level_max = STRICT_LEVEL_MAX if shot.name == "dev-components" else BLOCK_LEVEL_MAX
    found = [await tools.check(name, png, level_max=level_max) async for name, png in taking.take(shot)]
    return [fault for fault in found if fault is not None]


def test_every_page_has_a_picture_or_a_reason(opened: Set) -> None:
    unknown = set(NOT_PICTURED) - set(opened.site.pages)
    assert unknown == set(), "these routes don't exist any more"
    names = {shot.name for shot in opened.shots}
    assert {route for route in opened.site.pages if name_of(route) not in names} == set(NOT_PICTURED)


def test_no_reference_is_left_over(opened: Set) -> None:
    names = {f"{shot.name}-{look}.webp" for shot in opened.shots for look in looks_of(shot)}
    left_over = [path for path in REFERENCES.iterdir() if path.name not in names]
    if IS_RENEWING:
        for path in left_over:
            path.unlink()
        return
    assert left_over == []
