"""Token classes and corrections on the command line."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support import postgres
from support.gateways import ServerProcess, write_settings
from support.http import InstantUpstream
from tok0n.cli import main

EMAIL = "a@example.com"
PREMIUM = '[token_classes.premium]\ntitle = "Premium tokens"\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def declare(text: str) -> None:
    Path("tok0n.toml").write_text(text)


def test_a_grant_goes_to_the_class_that_it_names() -> None:
    declare(PREMIUM)
    assert run_json("accounts", "create", EMAIL, "--tokens", "7")["wallets"] == [
        {"token_class": "standard", "posted": 7, "pending": 0, "available": 7}
    ]
    granted = run_json("accounts", "grant", EMAIL, "500", "--class", "premium", "--reason", "a trial")
    assert granted["posted"] == 7
    assert granted == run_json("accounts", "show", EMAIL)
    assert {one["token_class"]: one["posted"] for one in granted["wallets"]} == {"standard": 7, "premium": 500}
    output = run("accounts", "show", EMAIL).output
    assert [line.split() for line in output.splitlines()[-2:]] == [
        ["premium", "500", "0", "500"],
        ["standard", "7", "0", "7"],
    ]
    assert "premium: 500" in run("accounts", "list").output


def test_with_one_class_no_table_has_a_column_for_it() -> None:
    run_json("accounts", "create", EMAIL, "--tokens", "7")
    for command in (("accounts", "show", EMAIL), ("accounts", "list"), ("orders", "list", EMAIL), ("models", "list")):
        assert "class" not in run(*command).output, command


@pytest.mark.parametrize(
    "command",
    [
        ("accounts", "grant", EMAIL, "5"),
        ("accounts", "adjust", EMAIL, "--tokens=5"),
        ("codes", "create", "--tokens", "5"),
    ],
    ids=lambda command: command[1],
)
def test_an_unknown_class_is_an_error_that_lists_the_declared_ones(command: tuple[str, ...]) -> None:
    declare(PREMIUM)
    run_json("accounts", "create", EMAIL)
    result = run(*command, "--class", "premiun", "--reason", "x")
    assert result.exit_code == 2
    assert "Declared: standard, premium." in result.stderr


def test_a_code_and_a_model_show_their_class() -> None:
    model = '[upstreams.a]\nbase_url = "http://127.0.0.1:9"\n[models.m]\nupstream = "a"\nmax_output_tokens = 10\n'
    declare(PREMIUM + model + 'token_class = "premium"\n')
    created = run_json("codes", "create", "--tokens", "5", "--class", "premium", "--reason", "x")
    assert created["token_class"] == "premium"
    (listed,) = run_json("models", "list")
    assert listed["token_class"] == "premium"
    assert "premium" in run("models", "list").output


def test_an_adjustment_goes_down_only_to_what_is_available() -> None:
    run_json("accounts", "create", EMAIL, "--tokens", "100")
    assert run_json("accounts", "adjust", EMAIL, "--tokens=-40", "--reason", "mistake")["posted"] == 60
    assert run_json("accounts", "adjust", EMAIL, "--tokens", "5", "--reason", "back")["posted"] == 65
    result = run("accounts", "adjust", EMAIL, "--tokens=-66", "--reason", "x")
    assert (result.exit_code, "65 tokens" in result.stderr) == (1, True)
    for arguments in (
        ("--tokens=0", "--reason", "x"),
        ("--tokens=1",),
        ("--tokens=x", "--reason", "x"),
        ("--reason", "x"),
    ):
        assert run("accounts", "adjust", EMAIL, *arguments).exit_code == 2
    assert run_json("ledger", "audit")["ok"] is True


def test_an_account_is_suspended_and_reopened_with_a_reason() -> None:
    run_json("accounts", "create", EMAIL)
    assert run("accounts", "suspend", EMAIL).exit_code == 2
    assert run_json("accounts", "suspend", EMAIL, "--reason", "fraud")["status"] == "suspended"
    again = run("accounts", "suspend", EMAIL, "--reason", "fraud")
    assert (again.exit_code, "already suspended" in again.stderr) == (1, True)
    key = run("keys", "create", EMAIL)
    assert (key.exit_code, "tok0n accounts reopen EMAIL" in key.stderr) == (1, True)
    assert "suspended" in run("accounts", "list").output
    assert run_json("accounts", "reopen", EMAIL, "--reason", "cleared")["status"] == "open"
    assert run("accounts", "reopen", "b@example.com", "--reason", "x").exit_code == 1


def test_config_check_warns_of_a_retired_class_with_its_tokens_and_without_addresses() -> None:
    declare(PREMIUM)
    run_json("accounts", "create", EMAIL)
    run_json("accounts", "grant", EMAIL, "500", "--class", "premium", "--reason", "x")
    wheres = [fault["where"] for fault in run_json("config", "check")["faults"]]
    assert "token_classes.premium" not in wheres
    declare("")
    report = run_json("config", "check")
    assert report["ok"] is True
    (fault,) = [fault for fault in report["faults"] if fault["where"] == "token_classes.premium"]
    assert (fault["severity"], "1 account owns 500 tokens" in fault["message"]) == ("warning", True)
    assert EMAIL not in str(report)
    assert "500" not in run("accounts", "grant", EMAIL, "1", "--class", "premium", "--reason", "x").output
    assert run_json("accounts", "adjust", EMAIL, "--class", "premium", "--tokens=-500", "--reason", "moved")
    assert "token_classes.premium" not in str(run_json("config", "check"))


@pytest.mark.parametrize("content", [None, b"", b"not a database"])
def test_config_check_neither_creates_nor_changes_a_database(content: bytes | None) -> None:
    declare("")
    path = Path("tok0n.db")
    if content is not None:
        path.write_bytes(content)
    assert run_json("config", "check")["ok"] is True
    assert (path.read_bytes() if path.exists() else None) == content


@pytest.mark.anyio
async def test_a_server_logs_a_retired_class_once_at_start(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        write_settings(tmp_path, upstream_url=upstream.base_url, more=PREMIUM)
        config = str(tmp_path / "tok0n.toml")
        await asyncio.to_thread(run_json, "accounts", "create", EMAIL, "--config", config)
        grant = ("accounts", "grant", EMAIL, "500", "--class", "premium", "--reason", "x", "--config", config)
        await asyncio.to_thread(run_json, *grant)
        write_settings(tmp_path, upstream_url=upstream.base_url)
        async with ServerProcess(tmp_path) as server:
            pass
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    (warning,) = [line for line in lines if line["event"] == "token_class_retired"]
    assert (warning["level"], warning["token_class"]) == ("warning", "premium")
    assert "1 account owns 500 tokens" in warning["message"]
    assert EMAIL not in str(lines)


@pytest.mark.anyio
async def test_config_check_warns_on_postgres_too_and_ignores_a_database_that_is_away() -> None:
    cluster = await asyncio.to_thread(postgres.shared_cluster)
    url = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")
    database = f'[database]\nurl = "{url}"\nconnect_timeout_seconds = 2\n'
    declare(database + PREMIUM)
    await asyncio.to_thread(run_json, "accounts", "create", EMAIL)
    grant = ("accounts", "grant", EMAIL, "500", "--class", "premium", "--reason", "x")
    await asyncio.to_thread(run_json, *grant)
    assert "token_classes.premium" not in str(await asyncio.to_thread(run_json, "config", "check"))
    declare(database)
    report = await asyncio.to_thread(run_json, "config", "check")
    assert "1 account owns 500 tokens" in str(report["faults"])
    declare('[database]\nurl = "postgresql://nobody@127.0.0.1:9/none"\nconnect_timeout_seconds = 1\n')
    report = await asyncio.to_thread(run_json, "config", "check")
    assert (report["ok"], "token_classes" in str(report)) == (True, False)
