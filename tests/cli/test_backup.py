"""A backup is complete, audited and readable by its owner only; a restore replaces the whole database."""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.gateways import ServerProcess
from support.http import request
from tok0n.adapters.sql import backup
from tok0n.adapters.sql.schema import HEAD
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.cli import main
from tok0n.domain.errors import OperatorError

EMAIL = "a@example.com"


def tok0n(*arguments: str, cwd: Path) -> Result:
    """Run a command in this process, with `cwd` as the current folder."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, list(arguments))


def tok0n_json(*arguments: str, cwd: Path) -> Any:
    done = tok0n(*arguments, "--json", cwd=cwd)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """An installation with an account that has 7 tokens."""
    tok0n_json("accounts", "create", EMAIL, "--tokens", "7", cwd=tmp_path)
    return tmp_path


def posted(installation: Path) -> int:
    result: int = tok0n_json("accounts", "show", EMAIL, cwd=installation)["posted"]
    return result


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def grow(installation: Path, *, accounts: int) -> None:
    """Create enough accounts for the tables to span many pages."""
    store = SqliteStore(installation / "tok0n.db", serving=False)

    async def create() -> None:
        from tok0n.adapters.sql.repositories.accounts import SqlAccounts  # noqa: PLC0415

        names = SqlAccounts(store)
        await asyncio.gather(
            *(names.create(email=f"user{n}@example.com", tokens=n + 1, now_us=n + 1) for n in range(accounts))
        )
        await store.aclose()

    asyncio.run(create())


def leave_wal(installation: Path) -> None:
    """Leave the database and its WAL as a killed process does."""
    connection = sqlite3.connect(installation / "tok0n.db", isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE account SET created_at_us = created_at_us + 1")
    connection.execute("CREATE TABLE filler (x TEXT)")
    connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 500,)] * 2_000)
    for name in ("tok0n.db", "tok0n.db-wal"):
        shutil.copy(installation / name, installation / f"{name}.kept")
    connection.close()
    for name in ("tok0n.db", "tok0n.db-wal"):
        (installation / f"{name}.kept").replace(installation / name)
    (installation / "tok0n.db-shm").unlink(missing_ok=True)


@pytest.mark.anyio
async def test_a_backup_of_a_running_server_can_be_restored_once_it_stops(installation: Path) -> None:
    async with ServerProcess(installation) as server:
        result = await asyncio.to_thread(tok0n_json, "database", "backup", "b.db", cwd=installation)
        assert (result["path"], result["schema"], result["audit"]["ok"]) == (
            str(installation / "b.db"),
            HEAD,
            True,
        )
        assert sorted(path.name for path in installation.glob("*b.db*")) == ["b.db"]
        await asyncio.to_thread(tok0n_json, "accounts", "grant", EMAIL, "5", "--reason", "x", cwd=installation)
        rejected = await asyncio.to_thread(tok0n, "database", "restore", "b.db", "--overwrite", cwd=installation)
        assert (rejected.exit_code, "Stop it first" in rejected.stderr) == (1, True)
        assert (await request(server.base_url, "GET", "/readyz")).status == 200
    assert await asyncio.to_thread(posted, installation) == 12
    await asyncio.to_thread(tok0n_json, "database", "restore", "b.db", "--overwrite", cwd=installation)
    assert await asyncio.to_thread(posted, installation) == 7


def test_only_the_owner_can_read_the_files_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        tok0n_json("accounts", "create", EMAIL, cwd=tmp_path)
        tok0n_json("database", "backup", "b.db", cwd=tmp_path)
        (tmp_path / "b.db").chmod(0o644)
        tok0n_json("database", "restore", "b.db", "--overwrite", cwd=tmp_path)
        tok0n_json("database", "backup", "b.db", "--overwrite", cwd=tmp_path)
        store = SqliteStore(tmp_path / "tok0n.db", serving=True)
        modes = {path.name: mode(path) for path in tmp_path.iterdir()}
        asyncio.run(store.aclose())
    finally:
        os.umask(before)
    assert {"tok0n.db", "tok0n.db-wal", "tok0n.db-shm", "tok0n.db.lock", "b.db"} == set(modes)
    assert set(modes.values()) == {0o600}


def test_no_file_is_overwritten_without_the_overwrite_flag(installation: Path) -> None:
    tok0n_json("database", "backup", "b.db", cwd=installation)
    before = (installation / "b.db").read_bytes()
    tok0n_json("accounts", "grant", EMAIL, "5", "--reason", "x", cwd=installation)
    for command in ("backup", "restore"):
        rejected = tok0n("database", command, "b.db", "--json", cwd=installation)
        assert rejected.exit_code == 1
        assert "--overwrite" in json.loads(rejected.stdout)["error"]
    assert (installation / "b.db").read_bytes() == before
    assert posted(installation) == 12
    tok0n_json("database", "backup", "b.db", "--overwrite", cwd=installation)
    assert (installation / "b.db").read_bytes() != before


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _change_a_balance(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE wallet SET posted = 8")
    connection.commit()
    connection.close()


def _from_the_future(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999_future'")
    connection.commit()
    connection.close()


def _of_another_program(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE x (y)")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "malformed"),
        (_change_a_balance, "audit"),
        (_from_the_future, "newer Tok0n"),
        (_of_another_program, "not a Tok0n database"),
        (lambda path: path.write_bytes(b"x" * 10_000), "not a database"),
        (lambda path: path.write_bytes(b""), "not a Tok0n database"),
        (Path.unlink, "no backup"),
    ],
)
def test_restoring_a_damaged_backup_changes_nothing(installation: Path, damage: Any, words: str) -> None:
    tok0n_json("database", "backup", "b.db", cwd=installation)
    damage(installation / "b.db")
    tok0n_json("accounts", "grant", EMAIL, "5", "--reason", "x", cwd=installation)
    rejected = tok0n("database", "restore", "b.db", "--overwrite", cwd=installation)
    assert rejected.exit_code == 1
    assert words in rejected.stderr
    assert "Traceback" not in rejected.stderr
    assert posted(installation) == 12
    assert not list(installation.glob(".*"))


def test_a_restore_removes_the_wal_of_the_replaced_database(installation: Path) -> None:
    tok0n_json("database", "backup", "b.db", cwd=installation)
    grow(installation, accounts=300)
    leave_wal(installation)
    tok0n_json("database", "restore", "b.db", "--overwrite", cwd=installation)
    assert not (installation / "tok0n.db-wal").exists()
    assert tok0n_json("ledger", "audit", cwd=installation)["accounts"] == 1


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("accounts", "list"), ("ledger", "audit")])
def test_an_old_copy_with_a_newer_wal_is_detected_and_not_changed(installation: Path, command: tuple[str, ...]) -> None:
    grow(installation, accounts=50)
    shutil.copy(installation / "tok0n.db", installation / "old.db")
    grow_more = installation / "tok0n.db"
    grow(installation, accounts=0)
    leave_wal(installation)
    shutil.copy(installation / "old.db", grow_more)
    with (installation / "tok0n.db").open("r+b") as file:  # an older copy lacks the last pages
        file.truncate(file.seek(0, 2) - 3 * 4096)
    before = (installation / "tok0n.db").read_bytes()
    done = tok0n(*command, cwd=installation)
    assert done.exit_code == 1
    assert "tok0n database restore" in done.stderr
    assert "tok0n.db-wal" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "charged" not in done.stderr
    assert (installation / "tok0n.db").read_bytes() == before, "a checkpoint damaged the copy permanently"


def test_the_wal_of_a_killed_process_is_applied(installation: Path) -> None:
    grow(installation, accounts=50)
    leave_wal(installation)
    assert tok0n_json("ledger", "audit", cwd=installation)["accounts"] == 51


def test_a_killed_restore_keeps_the_old_database(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tok0n_json("database", "backup", "b.db", cwd=installation)
    tok0n_json("accounts", "grant", EMAIL, "5", "--reason", "x", cwd=installation)

    def killed(*_: object) -> None:
        raise OSError(5, "killed here")

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(OperatorError, match="killed here"):
        backup.restore(installation / "b.db", installation / "tok0n.db", overwrite=True)
    assert posted(installation) == 12


def test_backup_and_restore_name_the_tools_for_postgres(tmp_path: Path) -> None:
    (tmp_path / "tok0n.toml").write_text('[database]\nurl = "postgresql://127.0.0.1/none"\n')
    assert "pg_dump" in tok0n("database", "backup", "x", cwd=tmp_path).stderr
    assert "pg_restore" in tok0n("database", "restore", "x", cwd=tmp_path).stderr
