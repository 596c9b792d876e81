"""The benchmark of pages opens every page of an account whose roll-ups and audit are complete."""

from collections.abc import Iterator

import pages
import pytest
import structlog

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def logs_of_later_tests() -> Iterator[None]:
    """The benchmark logs only errors, and later tests of this process wait for warnings."""
    yield
    structlog.reset_defaults()


async def test_every_page_of_the_benchmark_opens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "ROUNDS", 1)
    monkeypatch.setattr(pages, "ZONES", ("Asia/Kolkata",))
    await pages.measure_engine(300, None, ())
    printed = capsys.readouterr().out
    assert "SQLite, 300 requests, Asia/Kolkata" in printed
    assert "/dashboard/requests.csv: 300 lines" in printed
