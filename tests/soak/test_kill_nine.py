"""kill -9 of a real server under load, at twenty moments: every token is accounted for."""

from pathlib import Path

import pytest

from support.killed_servers import kill_under_load

pytestmark = pytest.mark.anyio


async def test_kill_nine_under_load_loses_and_invents_no_token(tmp_path: Path) -> None:
    await kill_under_load(tmp_path, rounds=20)
