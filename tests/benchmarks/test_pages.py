"""The benchmark of pages opens every page of an account whose roll-ups and audit are complete."""

import pages
import pytest

pytestmark = pytest.mark.anyio


async def test_every_page_of_the_benchmark_opens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "ROUNDS", 1)
    monkeypatch.setattr(pages, "ZONES", ("Asia/Kolkata",))
    await pages.measure_engine(300, None, ())
    printed = capsys.readouterr().out
    assert "SQLite, 300 requests, Asia/Kolkata" in printed
    assert "/dashboard/requests.csv: 300 lines" in printed
