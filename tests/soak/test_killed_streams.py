"""kill -9 in the middle of 200 streams: nothing stays reserved, and an incomplete answer is never charged."""

import secrets
from pathlib import Path

import pytest

from support import postgres
from support.killed_streams import kill_streams

pytestmark = pytest.mark.anyio


async def test_kill_nine_in_the_middle_of_streams_on_sqlite(tmp_path: Path) -> None:
    await kill_streams(tmp_path, rounds=20)


async def test_kill_nine_in_the_middle_of_streams_on_postgresql(tmp_path: Path) -> None:
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        await kill_streams(tmp_path, rounds=3, database_url=url)
