"""With --json, every command prints one document; errors that the operator can fix take one line."""

import contextlib
import errno
import json
import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tok0n.cli import main

EMAIL = "a@example.com"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ARGUMENTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("init",): ("--config", "new.toml"),
    ("config", "check"): (),
    ("migrate",): (),
    ("database", "backup"): ("b.db",),
    ("database", "restore"): ("b.db", "--overwrite"),
    ("models", "list"): (),
    ("models", "verify"): (),
    ("models", "enable"): ("m",),
    ("models", "disable"): ("m",),
    ("accounts", "create"): (EMAIL,),
    ("accounts", "show"): (EMAIL,),
    ("accounts", "grant"): (EMAIL, "5", "--reason", "x"),
    ("accounts", "adjust"): (EMAIL, "--tokens=-1", "--reason", "x"),
    ("accounts", "suspend"): (EMAIL, "--reason", "x"),
    ("accounts", "reopen"): (EMAIL, "--reason", "x"),
    ("accounts", "invite"): ("new@example.com",),
    ("accounts", "recover"): ("new@example.com",),
    ("accounts", "list"): (),
    ("keys", "create"): (EMAIL,),
    ("keys", "list"): (EMAIL,),
    ("orders", "list"): (EMAIL,),
    ("codes", "create"): ("--tokens", "5", "--reason", "x"),
    ("ledger", "audit"): (),
}
"""Arguments with which each command succeeds, in an order where each command creates what later ones need."""

OTHER_COMMANDS = {
    ("demo",),
    ("serve",),
    ("copy",),
    ("keys", "show"),
    ("keys", "edit"),
    ("keys", "rotate"),
    ("keys", "revoke"),
    ("orders", "refund"),
    ("payments", "reconcile"),
}


def one_document(result: Result) -> Any:
    assert result.stdout.count("\n") == 1, result.stdout
    assert "Traceback" not in result.stderr
    return json.loads(result.stdout)


def test_every_command_prints_one_document_when_it_succeeds(folder: Path) -> None:
    (folder / "tok0n.toml").write_text(
        "[upstreams.a]\nbase_url = 'http://127.0.0.1:9'\n[models.m]\nupstream = 'a'\nmax_output_tokens = 10\n"
    )
    assert set(commands()) == set(ARGUMENTS) | OTHER_COMMANDS, "add each new command to ARGUMENTS or OTHER_COMMANDS"
    for command, arguments in ARGUMENTS.items():
        result = run(*command, *arguments, "--json")
        one_document(result)
        assert result.exit_code == (1 if command == ("models", "verify") else 0), (command, result.stderr)
    key = one_document(run("keys", "create", EMAIL, "--json"))
    for of_key in ("show", "edit", "rotate", "revoke"):
        one_document(run("keys", of_key, key["id"], "--json"))


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_prints_one_document_when_it_fails(folder: Path, command: tuple[str, ...]) -> None:
    usage = run(*command, "--nonsense", "--json")
    assert usage.exit_code == 2
    assert "nonsense" in one_document(usage)["error"]
    if command != ("demo",):
        (folder / "tok0n.toml").write_text("[server]\nprot = 1\n")
        arguments = {("copy",): ("--to", "postgresql://127.0.0.1/x"), ("orders", "refund"): ("ord_x",)}
        arguments |= {("keys", of_key): ("k",) for of_key in ("show", "edit", "rotate", "revoke")}
        result = run(*command, *ARGUMENTS.get(command, arguments.get(command, ())), "--json")
        document = one_document(result)
        if command != ("init",):
            assert result.exit_code == 2
            assert "prot" in str(document)


def test_logs_go_to_standard_error(folder: Path) -> None:
    result = run("accounts", "invite", EMAIL, "--json")
    assert one_document(result)["email"] == EMAIL
    assert "mail_not_sent" in result.stderr


def _folder_for_lock(folder: Path) -> None:
    (folder / "tok0n.db.lock").mkdir()


def _folder_for_database(folder: Path) -> None:
    (folder / "tok0n.db").mkdir()


def _no_database(folder: Path) -> None:
    (folder / "tok0n.db").write_bytes(b"x" * 10_000)


def _newer_database(folder: Path) -> None:
    run("migrate")
    connection = sqlite3.connect(folder / "tok0n.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999_future'")
    connection.commit()
    connection.close()


def _bad_ca(folder: Path) -> None:
    (folder / "ca.pem").write_text("x")
    (folder / "tok0n.toml").write_text("[upstreams.a]\nbase_url = 'https://127.0.0.1'\nca_file = 'ca.pem'\n")


def _bad_dotenv(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xff\xfe=\xff")


def _bad_settings(folder: Path) -> None:
    (folder / "tok0n.toml").write_bytes(b"\xff\xfe")


def _loop(folder: Path) -> None:
    (folder / "tok0n.db").symlink_to("tok0n.db")


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (_folder_for_lock, 1, "It is a folder"),
        (_folder_for_database, 2, "is a folder"),
        (_no_database, 1, "is damaged"),
        (_newer_database, 1, "newer Tok0n"),
        (_bad_ca, 2, "PEM"),
        (_bad_dotenv, 2, ".env"),
        (_bad_settings, 2, "UTF-8"),
        (_loop, 1, "tok0n.db"),
    ],
)
def test_a_startup_error_says_what_to_fix(folder: Path, prepare: Callable[[Path], None], code: int, words: str) -> None:
    prepare(folder)
    result = run("serve", "--port", "0", "--json")
    assert result.exit_code == code, result.output
    assert words in one_document(result)["error"]
    assert "charged" not in result.stderr


def test_an_unavailable_port_is_reported_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("serve", "--port", str(taken.getsockname()[1]), "--json")
    assert (result.exit_code, "--port" in one_document(result)["error"]) == (1, True)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    result = run("serve", "--port", "80", "--json")
    assert (result.exit_code, "above 1023" in one_document(result)["error"]) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("what", ["lock", "database", "folder", "settings"])
def test_an_inaccessible_file_is_reported(folder: Path, what: str) -> None:
    run("migrate")
    (folder / "tok0n.toml").write_text("")
    (folder / "tok0n.db.lock").touch()
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    name = {"lock": "tok0n.db.lock", "database": "tok0n.db", "folder": ".", "settings": "tok0n.toml"}[what]
    os.chown(folder / name, 0, 0)
    (folder / name).chmod(0o500 if what == "folder" else 0o400)
    with contextlib.suppress(FileNotFoundError):
        if what == "folder":
            (folder / "tok0n.db.lock").unlink()
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            result = run("serve", "--port", "0", "--json")
            is_reported = result.exit_code in {1, 2} and len(one_document(result)["error"]) > 20
            os.write(1, result.output.encode())
            os._exit(0 if is_reported else 1)
        finally:
            sys.stdout.flush()
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
