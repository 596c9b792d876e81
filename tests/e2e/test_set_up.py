"""The first start of a real server: whoever operates it sets up an account by a link, once."""

from pathlib import Path

import pytest

from support.gateways import ServerProcess, write_settings
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD
from support.visitor import Visitor

pytestmark = pytest.mark.anyio


async def test_the_first_start_gives_a_link_to_the_operators_account_and_later_ones_do_not(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    write_settings(tmp_path, upstream_url=upstream.base_url)
    async with ServerProcess(tmp_path) as server:
        url = server.base_url.removesuffix("/v1")
        assert server.ready["set_up_url"].startswith(f"{url}/set-up?link=")
        async with Visitor(url) as operator:
            page = server.ready["set_up_url"].removeprefix(url)
            fields = {"email": "op@example.com", "password": PASSWORD}
            assert (await operator.post("/set-up", fields, page=page)).headers["location"] == "/dashboard"
            assert (await operator.get("/dashboard")).status_code == 200
        assert await server.stop() == 0
    async with ServerProcess(tmp_path) as server:
        assert server.ready["set_up_url"] is None
        async with Visitor(server.base_url.removesuffix("/v1")) as operator:
            assert (await operator.sign_in("op@example.com", PASSWORD)).status_code == 303
