"""API keys in the dashboard: shown once, limited, renamed, revoked."""

import re

import pytest

from support import api_keys
from support.api_keys import keys_of
from support.gateways import EMAIL, Running
from support.http import chat, chat_body
from support.pages import create_key, paths
from support.visitor import Visitor, text_of
from tok0n.services.api_keys import KEYS_MAX

pytestmark = pytest.mark.anyio


async def test_a_key_is_shown_once_and_its_revocation_applies_to_the_next_request(
    site: Running, owner: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    key = await create_key(owner)
    assert (await chat(site.base_url, key, chat_body())).status == 200
    for path in paths(site, method="GET"):
        assert key not in (await owner.get(path)).text, path
    page = await owner.get("/dashboard/keys")
    assert f"{key[:9]}…{key[-4:]}" in page.text
    newest = re.findall(r"/dashboard/keys/(key_\w+)/revoke", page.text)[0]
    question = await owner.get(f"/dashboard/keys/{newest}/revoke")
    assert "Revoke “laptop”?" in question.text
    assert (await chat(site.base_url, key, chat_body())).status == 200, "asking revokes nothing"
    await owner.post(f"/dashboard/keys/{newest}/revoke")
    assert (await chat(site.base_url, key, chat_body())).status == 401
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    assert key.encode() not in stored
    assert key not in "".join(capfd.readouterr())


async def test_a_key_has_the_limits_of_its_form(site: Running, owner: Visitor) -> None:
    key = await create_key(owner, days="30", budget="5,000", models="demo")
    shown = text_of(await owner.get("/dashboard/keys"))
    assert "5,000" in shown
    assert (await chat(site.base_url, key, chat_body())).status == 200
    listed = (await keys_of(site.store.accounts, EMAIL))[-1]
    assert (listed.limits.total_budget, listed.limits.models) == (5_000, ("demo",))
    for fields, words in (
        ({"days": "0"}, "whole number from 1"),
        ({"budget": "many"}, "whole number from 1"),
        ({"models": "gone"}, "no longer available"),
        ({"name": " "}, "1 to 100 printable"),
        ({"name": "a\tb"}, "1 to 100 printable"),
    ):
        answer = await owner.post("/dashboard/keys", {"name": "n", **fields})
        assert (answer.status_code, words in text_of(answer)) == (422, True), fields


async def test_an_account_has_a_bounded_number_of_keys(site: Running, owner: Visitor) -> None:
    existing = await keys_of(site.store.accounts, EMAIL)
    for _ in range(KEYS_MAX - len(existing) - 1):
        await api_keys.create_key(site.store.accounts, EMAIL)
    await create_key(owner)
    refused = await owner.post("/dashboard/keys", {"name": "one more"})
    assert (refused.status_code, "Revoke one first" in refused.text) == (422, True)


async def test_a_renamed_key_keeps_working(site: Running, owner: Visitor) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    await owner.post(f"/dashboard/keys/{key.id}/rename", {"name": "production"})
    assert "production" in (await owner.get("/dashboard/keys")).text
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 200


async def test_a_key_shows_when_it_was_last_used(site: Running, owner: Visitor) -> None:
    assert "never" in text_of(await owner.get("/dashboard/keys"))
    await chat(site.base_url, site.api_key, chat_body())
    await site.caller_cache.flush_last_used()
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    assert key.last_used_at_us is not None
    assert abs(key.last_used_at_us - site.clock.now_us()) < 60_000_000
    unused, _ = await api_keys.create_key(site.store.accounts, EMAIL)
    assert unused.last_used_at_us is None
