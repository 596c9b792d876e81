"""The export of an account: everything in one ZIP file, no secret, nothing of others, one at a time."""

import csv
import io
import json
import zipfile

import httpx
import pytest

from support.gateways import EMAIL, Running
from support.http import chat, chat_body
from support.pages import create_key
from support.visitor import Visitor, text_of
from tok0n.domain.attempts import LIMITS, AttemptKind

pytestmark = pytest.mark.anyio

PATH = "/dashboard/settings/export"


def files_of(answer: httpx.Response) -> dict[str, str]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    assert answer.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


async def test_an_export_has_everything_of_the_account_and_no_secret(
    site: Running, owner: Visitor, stranger: Visitor
) -> None:
    secret = await create_key(owner, name="=cmd|'/c calc'!A0", budget_tokens="9000", budget_period="day")
    answer = await chat(site.base_url, secret, chat_body())
    request_id = answer.headers["x-request-id"]
    files = files_of(await owner.post_raw(PATH, {}))
    account = await site.account()
    exported = json.loads(files["account.json"])
    assert (exported["id"], exported["email"]) == (account.id, EMAIL)
    assert exported["balances"]["standard"]["posted"] == account.balance.posted
    assert [session["agent"] for session in exported["sessions"]]
    (key,) = [key for key in json.loads(files["keys.json"]) if key["name"].startswith("=cmd")]
    assert key["limits"]["budgets"][0]["tokens"] == 9_000
    (request,) = rows_of(files["requests.csv"])
    assert request["id"] == request_id
    assert request["created_at"].endswith("+00:00")
    assert request["key_name"].startswith("'=cmd"), "a spreadsheet must not run it"
    entries = rows_of(files["statement.csv"])
    assert sum(int(entry["amount"]) for entry in entries) == account.balance.posted
    for by in ("model", "key"):
        assert [row["charged"] for row in rows_of(files[f"usage-by-{by}.csv"])] == [request["charged"]]
    assert {row["action"] for row in rows_of(files["activity.csv"])} == {"key_created"}
    everything = "".join(files.values())
    for word in (secret, owner.cookies["tok0n"], "password_hash", "totp_secret", "digest"):
        assert word not in everything, word
    others = files_of(await stranger.post_raw(PATH, {}))
    assert request_id not in "".join(others.values())
    assert account.id not in "".join(others.values())


async def test_exports_are_few(owner: Visitor) -> None:
    for _ in range(LIMITS[AttemptKind.EXPORT].attempts_max):
        files_of(await owner.post_raw(PATH, {}))
    rejected = await owner.post_raw(PATH, {})
    assert rejected.status_code == 422
    assert "Too many" in text_of(rejected)


async def test_an_export_needs_a_sign_in_and_the_same_site(site: Running) -> None:
    async with Visitor(site.url) as nobody:
        answer = await nobody.post_raw(PATH, {})
        assert answer.headers["location"].startswith("/sign-in")
    async with httpx.AsyncClient(base_url=site.url) as http:
        answer = await http.post(PATH, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code in {303, 403}
