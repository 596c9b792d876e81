"""Compare pictures of pages with the references in tests/pictures/references, or renew these.

A reference is half as large as its page, so that it is small, and so that another version of Chromium, which may
draw the edges of letters differently, is no difference.
"""

import base64
import os
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import JSHandle, Page

SUPPORT = Path(__file__).parent
FOLDER = SUPPORT.parent / "pictures"
REFERENCES = FOLDER / "references"
FAILURES = FOLDER / "failures"
RENEW = "TOK0N_PICTURES=write make test-pictures"
IS_RENEWING = os.environ.get("TOK0N_PICTURES") == "write"

FACTOR = 2
"""One pixel of a reference is the mean of so many pixels in each direction."""

QUALITY = 0.7
DIFFERING_SHARE_MAX = 0.002
BLOCK_SHARE_MAX = 0.3
BLOCK_LEVEL_MAX = 8
STRICT_LEVEL_MAX = 4
"""For the page of all components, so that a corner, a shadow or a shade of gray that changes everywhere fails there."""

HEIGHT_DIFFERENCE_MAX = 2
"""In pixels of the reference. A line of text is at least 8 of them high."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much two pictures differ. Shares are from 0 to 1, and levels from 0 to 255.

    `differing_share` counts the pixels of the whole picture that differ much. `block_share` is that of the block of 8 x
    8 pixels where it is highest, and `block_level` the highest mean difference of a block, of all channels.
    """

    expected_size: tuple[int, int]
    actual_size: tuple[int, int]
    differing_share: float
    block_share: float
    block_level: float
    picture: str

    def reasons(self, *, level_max: int = BLOCK_LEVEL_MAX) -> list[str]:
        """Return why the pictures don't count as equal. Empty if they do."""
        (expected_width, expected_height), (width, height) = self.expected_size, self.actual_size
        if width != expected_width or abs(height - expected_height) > HEIGHT_DIFFERENCE_MAX:
            return [f"has the size {self.actual_size} instead of {self.expected_size}, in units of {FACTOR} px"]
        limits = (
            ("of all pixels", self.differing_share, DIFFERING_SHARE_MAX),
            ("of the pixels of one place", self.block_share, BLOCK_SHARE_MAX),
            ("of the brightness of one place", self.block_level / 255, level_max / 255),
        )
        return [f"differs in {share:.2%} {unit}, at most {most:.2%}" for unit, share, most in limits if share > most]


class PictureTools:
    """The functions of pictures.js, in a blank page."""

    def __init__(self, functions: JSHandle) -> None:
        self._functions = functions

    async def shrink(self, png: bytes) -> bytes:
        """Return the WebP file that is stored as the reference of a picture."""
        arguments = {"picture": base64.b64encode(png).decode(), "factor": FACTOR, "quality": QUALITY}
        shrunk = await self._functions.evaluate("(functions, arguments) => functions.shrink(arguments)", arguments)
        return base64.b64decode(shrunk)

    async def compare(self, *, expected: bytes, actual: bytes) -> Difference:
        """Compare two WebP files."""
        arguments = {"expected": base64.b64encode(expected).decode(), "actual": base64.b64encode(actual).decode()}
        found: Any = await self._functions.evaluate("(functions, arguments) => functions.compare(arguments)", arguments)
        return msgspec.convert(found, Difference)

    async def check(self, name: str, png: bytes, *, level_max: int) -> str | None:
        """Compare a picture with its reference. Returns what is wrong, or renews the reference."""
        reference = REFERENCES / f"{name}.webp"
        actual = await self.shrink(png)
        expected = reference.read_bytes() if reference.exists() else None
        difference = None if expected is None else await self.compare(expected=expected, actual=actual)
        reasons = [] if difference is None else difference.reasons(level_max=level_max)
        if difference is not None and not reasons:
            return None
        if IS_RENEWING:
            reference.parent.mkdir(exist_ok=True)
            reference.write_bytes(actual)
            return None
        FAILURES.mkdir(exist_ok=True)
        (FAILURES / f"{name}-actual.webp").write_bytes(actual)
        if expected is None or difference is None:
            return f"{name} has no reference"
        (FAILURES / f"{name}-expected.webp").write_bytes(expected)
        (FAILURES / f"{name}-difference.png").write_bytes(base64.b64decode(difference.picture))
        return f"{name} {', '.join(reasons)}"


async def open_tools(page: Page) -> PictureTools:
    """Load pictures.js into a blank page."""
    return PictureTools(await page.evaluate_handle((SUPPORT / "pictures.js").read_text()))


def explain(faults: list[str]) -> str:
    """Return the message of a test that found these faults."""
    return "\n".join([*faults, f"Look at the pictures in {FAILURES}. If the change is intended: {RENEW}"])
