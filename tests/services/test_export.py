"""The export of an account reads one page at a time, whatever its length and the number of exports."""

import asyncio
import functools
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from support.fakes import FakeClock
from tok0n.domain.attempts import AttemptKind, AttemptLimit, CountedAttempt
from tok0n.domain.exported import RejectedCount
from tok0n.domain.users import Session
from tok0n.services import export
from tok0n.services.export import ROWS_AT_ONCE, AccountExport, ExportPorts, RunningExport
from tok0n.services.passwords import FormError

pytestmark = pytest.mark.anyio

PAGES = 24
PAGES_PER_STEP = 15
"""More pages than the compressor holds back."""


class FakeRows:
    """The `ExportedRows` port, with `PAGES` pages of one history. Counts how many calls run at the same time."""

    def __init__(self) -> None:
        self.pages_read = 0
        self.running = 0
        self.running_max = 0

    async def rejected_counts(
        self, account_id: str, *, before: RejectedCount | None, rows_max: int
    ) -> list[RejectedCount]:
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        newest = PAGES * rows_max if before is None else before.since_us
        self.pages_read += 1
        quarters = range(newest - 1, max(newest - rows_max, 0) - 1, -1)
        return [
            RejectedCount(since_us=quarter, api_key_id=account_id, model="", code="c", requests=1, stored=0)
            for quarter in (quarters if newest else ())
        ]


class NoAttempts:
    """The `Attempts` port: every attempt is admitted."""

    async def count_attempt(
        self, kind: AttemptKind, subject: bytes, *, limit: AttemptLimit, now_us: int
    ) -> CountedAttempt:
        return CountedAttempt(kind=kind, subject=subject, since_us=now_us)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> FakeRows:
    """Exports of one long history alone."""
    rows = FakeRows()

    def files(self: AccountExport, session: Session) -> Sequence[tuple[str, AsyncIterator[bytes]]]:
        return [("counts.csv", export._csv(functools.partial(rows.rejected_counts, session.account_id)))]

    monkeypatch.setattr(AccountExport, "_files", files)
    return rows


@pytest.fixture
def exports() -> AccountExport:
    return AccountExport(cast("ExportPorts", None), cast("Any", NoAttempts()), FakeClock())


def session(account_id: str) -> Session:
    return Session(digest=b"d", user_id="u", email="a@x", account_id=account_id, time_zone="UTC", is_operator=False)


async def read(pieces: RunningExport) -> list[bytes]:
    return [piece async for piece in pieces]


def lines_of(pieces: Sequence[bytes]) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        return archive.read("counts.csv").decode().splitlines()


async def test_an_export_reads_a_page_only_when_the_client_has_taken_the_one_before(
    rows: FakeRows, exports: AccountExport
) -> None:
    pieces = []
    async for piece in await exports.begin(session("acct_1")):
        assert len(piece) < 100 * ROWS_AT_ONCE
        pieces.append(piece)
        assert rows.pages_read <= PAGES_PER_STEP * len(pieces)
    assert rows.pages_read == PAGES + 1
    assert len(lines_of(pieces)) == 1 + PAGES * ROWS_AT_ONCE


async def test_two_exports_read_one_page_at_a_time_and_both_are_complete(
    rows: FakeRows, exports: AccountExport
) -> None:
    finished: list[str] = []

    async def run(account_id: str) -> list[str]:
        pieces = await read(await exports.begin(session(account_id)))
        finished.append(account_id)
        return lines_of(pieces)

    accounts = ("acct_1", "acct_2")
    results = await asyncio.gather(*map(run, accounts))
    assert rows.running_max == 1, "only one page is read at a time"
    for account_id, lines in zip(accounts, results, strict=True):
        assert len(lines) == 1 + PAGES * ROWS_AT_ONCE
        assert all(f",{account_id}," in line for line in lines[1:])


async def test_a_slow_client_does_not_stop_the_export_of_another(rows: FakeRows, exports: AccountExport) -> None:
    slow = await exports.begin(session("acct_1"))
    await anext(slow)
    assert len(lines_of(await read(await exports.begin(session("acct_2"))))) == 1 + PAGES * ROWS_AT_ONCE


async def test_an_account_has_one_export_at_a_time_and_another_once_the_client_has_left(
    rows: FakeRows, exports: AccountExport
) -> None:
    first = await exports.begin(session("acct_1"))
    await anext(first)
    with pytest.raises(FormError, match="already running"):
        await exports.begin(session("acct_1"))
    await first.aclose()
    unread = await exports.begin(session("acct_1"))
    await unread.aclose()
    assert lines_of(await read(await exports.begin(session("acct_1"))))
