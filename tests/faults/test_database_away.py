"""The database is pulled away: nothing reaches the upstream, nothing is charged, and it mends itself."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from support.fakes import ANSWER
from support.gateways import Running, tok0n
from support.http import chat, chat_body, request
from support.scripted_upstream import ScriptedUpstream, http

pytestmark = pytest.mark.anyio


FULL_DISK = os.statvfs_result((4096, 4096, 10**6, 100, 100, 0, 0, 0, 0, 255))
"""100 free blocks of 4,096 bytes."""


def take_away(gateway: Running) -> None:
    (gateway.folder / "tok0n.db").rename(gateway.folder / "away.db")


def bring_back(gateway: Running) -> None:
    (gateway.folder / "away.db").rename(gateway.folder / "tok0n.db")


async def test_without_a_database_a_request_is_a_500_that_reaches_nobody(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
    take_away(gateway)
    answer = await chat(gateway.base_url, gateway.api_key, chat_body())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (500, "api_error", "api_error")
    assert len(upstream.requests) == 1
    ready = await request(gateway.base_url, "GET", "/readyz")
    assert (ready.status, ready.json["status"]) == (503, "not ready")
    assert (await request(gateway.base_url, "GET", "/healthz")).status == 200
    bring_back(gateway)
    assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
    assert (await request(gateway.base_url, "GET", "/readyz")).status == 200
    assert await gateway.audit_is_clean()


async def test_on_a_full_disk_it_is_not_ready(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: FULL_DISK)
        ready = await request(gateway.base_url, "GET", "/readyz")
        assert (ready.status, ready.json) == (
            503,
            {"status": "not ready", "components": {"database": "failed", "limiter": "ok"}},
        )
    assert (await request(gateway.base_url, "GET", "/readyz")).status == 200


async def test_another_database_in_its_place_is_not_written_to(gateway: Running, upstream: ScriptedUpstream) -> None:
    take_away(gateway)
    (gateway.folder / "tok0n.db").write_bytes((gateway.folder / "away.db").read_bytes())
    answer = await chat(gateway.base_url, gateway.api_key, chat_body())
    assert answer.status == 500
    assert upstream.requests == []


async def test_a_settlement_that_cannot_be_done_is_a_500_and_charges_nothing(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    async def answer_without_database(writer: asyncio.StreamWriter) -> None:
        take_away(gateway)
        writer.write(http(ANSWER))
        await writer.drain()

    upstream.behaviour = answer_without_database
    answer = await chat(gateway.base_url, gateway.api_key, chat_body())
    assert (answer.status, answer.error["code"]) == (500, "api_error")
    assert answer.headers["x-should-retry"] == "false"
    bring_back(gateway)
    await gateway.housekeeping.sweep()
    assert (await gateway.account()).balance.pending == 0
    assert (await gateway.account()).balance.posted == 1_000_000
    assert await gateway.audit_is_clean()


async def test_a_database_that_another_program_holds_delays_and_does_not_lose(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(gateway.folder / "tok0n.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    calling = asyncio.create_task(chat(gateway.base_url, gateway.api_key, chat_body()))
    assert (await request(gateway.base_url, "GET", "/healthz")).status == 200, "the loop is not held"
    other.execute("ROLLBACK")
    other.close()
    assert (await calling).status == 200


@pytest.mark.parametrize("content", [b"this is no database, but a text of some length" * 100])
def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tok0n.db").write_bytes(content)
    done = tok0n("accounts", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert "is damaged: file is not a database" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_database_is_for_its_owner_only(tmp_path: Path) -> None:
    assert tok0n("migrate", cwd=tmp_path).returncode == 0
    assert (tmp_path / "tok0n.db").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = tok0n("accounts", "list", cwd=tmp_path, env={"TOK0N_DATABASE__URL": "sqlite:///gone/tok0n.db"})
    assert done.returncode == 1
    assert "gone/tok0n.db: " in done.stderr


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    assert tok0n("migrate", cwd=tmp_path).returncode == 0
    connection = sqlite3.connect(tmp_path / "tok0n.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    done = tok0n("accounts", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert "newer Tok0n" in done.stderr
