"""A server logs each warning about its settings once at start."""

import json
from pathlib import Path

import pytest

from support.gateways import ServerProcess, write_settings
from support.http import InstantUpstream

pytestmark = pytest.mark.anyio


async def test_an_old_name_and_a_setting_without_effect_are_logged_once_at_start(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        write_settings(tmp_path, upstream_url=upstream.base_url)
        path = tmp_path / "tok0n.toml"
        text = path.read_text().replace("concurrent_requests_per_account", "concurrent_requests_per_user")
        path.write_text(text + '\n[models.other]\nupstream = "fake"\nmax_output_tokens = 9\nbound = "bytes"\n')
        async with ServerProcess(tmp_path) as server:
            pass
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [(line["level"], line["setting"]) for line in lines if line["event"] == "settings_warning"] == [
        ("warning", "limits.concurrent_requests_per_user"),
        ("warning", "models.other.bound"),
    ]
