"""The contract for scripts: command names, JSON, exit codes, and messages that say what to do next."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.gateways import tok0n
from tok0n.adapters.sql.schema import HEAD
from tok0n.cli import main

EMAIL = "a@example.com"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1, "stdout must be one JSON document"
    return json.loads(result.stdout)


def test_accounts_show_prints_posted_pending_and_available_tokens() -> None:
    created = run_json("accounts", "create", " A@Example.com ", "--tokens", "1000")
    assert created["email"] == EMAIL
    account = run_json("accounts", "show", EMAIL)
    assert (account["posted"], account["pending"], account["available"]) == (1000, 0, 1000)
    assert run_json("accounts", "list") == [account]
    assert "1,000" in run("accounts", "show", EMAIL).output
    assert EMAIL in run("accounts", "list").output


def test_a_grant_adds_tokens_and_needs_a_reason() -> None:
    run_json("accounts", "create", EMAIL)
    assert run_json("accounts", "grant", EMAIL, "500", "--reason", "a trial")["posted"] == 500
    for arguments in ((EMAIL, "5"), (EMAIL, "0", "--reason", "x"), (EMAIL, "-5", "--reason", "x"), (EMAIL, "x")):
        assert run("accounts", "grant", *arguments).exit_code == 2
    assert run("accounts", "grant", EMAIL, "5", "--reason", " ").exit_code == 2
    assert run_json("accounts", "show", EMAIL)["posted"] == 500
    assert run_json("ledger", "audit")["ok"] is True


def test_a_key_is_printed_once_and_listed_by_its_last_four_characters() -> None:
    run_json("accounts", "create", EMAIL)
    created = run_json("keys", "create", EMAIL, "--name", "laptop")
    assert created["api_key"].startswith("tk0n_")
    assert len(created["api_key"]) == 54
    (listed,) = run_json("keys", "list", EMAIL)
    assert created["api_key"] not in json.dumps(listed)
    assert (listed["id"], listed["name"], listed["last_four"]) == (
        created["id"],
        "laptop",
        created["api_key"][-4:],
    )
    plain = run("keys", "create", EMAIL)
    assert plain.stdout.strip().startswith("tk0n_")
    assert run_json("keys", "revoke", created["id"])["revoked_at"] is not None
    assert "laptop" in run("keys", "list", EMAIL).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("accounts", "show", "nobody@example.com"), "tok0n accounts create nobody@example.com"),
        (("keys", "create", "nobody@example.com"), "tok0n accounts create"),
        (("keys", "list", "nobody@example.com"), "tok0n accounts create"),
        (("keys", "revoke", "key_x"), "tok0n keys list"),
        (("accounts", "create", "nonsense"), "name@example.com"),
        (("models", "enable", "gpt-x"), "declare no model"),
        (("models", "verify", "gpt-x"), "declare no model"),
    ],
)
def test_a_failing_command_exits_1_and_says_what_to_do(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    as_json = run(*arguments, "--json")
    assert as_json.exit_code == 1
    assert words in json.loads(as_json.stdout)["error"]


def test_creating_an_existing_account_changes_nothing() -> None:
    run_json("accounts", "create", EMAIL, "--tokens", "7")
    assert run("accounts", "create", EMAIL, "--tokens", "9").exit_code == 1
    assert run_json("accounts", "show", EMAIL)["posted"] == 7


def test_usage_errors_exit_2() -> None:
    for arguments in (("nope",), ("accounts", "nope"), ("accounts", "show"), ("serve", "--port", "x")):
        assert run(*arguments).exit_code == 2


def test_init_writes_settings_that_are_valid_once_the_key_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("init").exit_code == 0
    written = (folder / "tok0n.toml").read_text()
    assert run("init").exit_code == 1, "init must not overwrite a file"
    assert (folder / "tok0n.toml").read_text() == written
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    missing = run("config", "check")
    assert missing.exit_code == 2
    assert "OPENAI_API_KEY" in missing.output
    (folder / ".env").write_text("OPENAI_API_KEY=sk-x\n")
    assert run("config", "check").exit_code == 0
    assert run_json("config", "check")["ok"] is True


def test_config_check_lists_all_faults_at_once(folder: Path) -> None:
    (folder / "tok0n.toml").write_text("[server]\nprot = 1\nport = 'x'\n[limit]\n[upstreams.a]\nbase_url = 'nope'\n")
    result = run("config", "check", "--json")
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert report["ok"] is False
    where = {fault["where"] for fault in report["faults"]}
    assert {"server.prot", "server.port", "limit"} <= where
    assert any("port" in fault["message"] for fault in report["faults"] if fault["where"] == "server.prot")


def test_invalid_settings_exit_2_from_every_command(folder: Path) -> None:
    (folder / "tok0n.toml").write_text("[server]\nprot = 1\n")
    for arguments in (("serve",), ("accounts", "list"), ("ledger", "audit"), ("models", "list"), ("migrate",)):
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert "prot" in result.stderr


def test_several_workers_are_rejected_with_the_default_storage(folder: Path) -> None:
    result = run("serve", "--workers", "2")
    assert result.exit_code == 2
    assert "postgresql://" in result.stderr


def test_migrate_is_idempotent() -> None:
    assert run_json("migrate")["applied"] == [HEAD]
    assert run_json("migrate")["applied"] == []


def test_the_audit_exits_1_when_there_is_a_difference(folder: Path) -> None:
    run_json("accounts", "create", EMAIL, "--tokens", "7")
    connection = sqlite3.connect(folder / "tok0n.db")
    connection.execute("UPDATE wallet SET posted = 8")
    connection.commit()
    connection.close()
    result = run("ledger", "audit", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert (report["differences"][0]["expected"], report["differences"][0]["found"]) == (7, 8)
    assert run("ledger", "audit").exit_code == 1


def test_a_model_can_be_disabled_and_enabled(folder: Path) -> None:
    (folder / "tok0n.toml").write_text(
        "[upstreams.a]\nbase_url = 'http://127.0.0.1:9'\n[models.m]\nupstream = 'a'\nmax_output_tokens = 10\n"
    )
    (listed,) = run_json("models", "list")
    assert (listed["id"], listed["enabled"], listed["verified"], listed["listed"]) == ("m", True, False, False)
    assert run_json("models", "disable", "m")["enabled"] is False
    assert run_json("models", "enable", "m")["enabled"] is True
    failed = run("models", "verify", "--json")
    assert failed.exit_code == 1
    (state,) = json.loads(failed.stdout)
    assert (state["passed"], state["consecutive_failures"]) == (False, 1)
    assert "m" in run("models", "list").output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_available(shell: str, folder: Path) -> None:
    done = tok0n(cwd=folder, env={"_TOK0N_COMPLETE": f"{shell}_source"})
    assert "_TOK0N_COMPLETE" in done.stdout


LIMITED = "limited@example.com"


def test_a_key_may_have_limits() -> None:
    run_json("accounts", "create", LIMITED)
    limits = ["--budget", "5", "--budget", "10000/day", "--network", "203.0.113.0/24", "--endpoint", "chat"]
    limits += ["--requests-per-minute", "7", "--expires-in-days", "1", "--note", "of a script"]
    key = run_json("keys", "create", LIMITED, *limits)
    assert (key["budget"], key["models"]) == (5, None)
    assert key["expires_at"] > key["created_at"]
    (listed,) = run_json("keys", "list", LIMITED)
    assert {name: value for name, value in key.items() if name != "api_key"} == listed
    assert (listed["networks"], listed["endpoints"]) == (["203.0.113.0/24"], ["chat"])
    assert (listed["requests_per_minute"], listed["note"]) == (7, "of a script")
    assert sorted((one["tokens"], one["period"], one["time_zone"]) for one in listed["budgets"]) == [
        (5, "total", "UTC"),
        (10_000, "day", "UTC"),
    ]
    assert "10000/day" in run("keys", "list", LIMITED).output


def test_a_key_can_be_created_disabled() -> None:
    run_json("accounts", "create", LIMITED)
    key = run_json("keys", "create", LIMITED, "--disable")
    assert key["disabled_at"] is not None
    assert "disabled" in run("keys", "show", key["id"]).output
    assert run_json("keys", "edit", key["id"], "--enable")["disabled_at"] is None
    assert run_json("keys", "create", LIMITED)["disabled_at"] is None


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--model", "nothing", "declare no model 'nothing'"),
        ("--budget", "5/year", "is not a budget"),
        ("--budget", "5:gold", "no token class gold"),
        ("--network", "10.0.0.1/8", "Did you mean 10.0.0.0/8"),
        ("--endpoint", "images", "Choose from chat"),
        ("--requests-per-minute", "0", "from 1 to"),
        ("--expires-in-days", "0", "from 1 to"),
    ],
)
def test_an_invalid_limit_says_what_to_do_and_creates_nothing(option: str, value: str, words: str) -> None:
    run_json("accounts", "create", LIMITED)
    rejected = run("keys", "create", LIMITED, option, value)
    assert rejected.exit_code in {1, 2}
    assert words in rejected.stderr
    assert run_json("keys", "list", LIMITED) == []


def test_a_key_is_edited_by_what_is_named_and_an_empty_value_removes_a_limit() -> None:
    run_json("accounts", "create", LIMITED)
    key_id = run_json("keys", "create", LIMITED, "--budget", "10000/day", "--network", "10.0.0.0/8")["id"]
    (first,) = run_json("keys", "show", key_id)["budgets"]
    assert (first["spent"], first["pending"], first["tokens"]) == (0, 0, 10_000)
    assert first["resets_at"].endswith("00:00:00Z")
    edited = run_json("keys", "edit", key_id, "--name", "n", "--budget", "20000/day", "--budget", "7", "--disable")
    assert (edited["name"], edited["networks"]) == ("n", ["10.0.0.0/8"])
    assert sorted(one["tokens"] for one in edited["budgets"]) == [7, 20_000]
    assert edited["disabled_at"] is not None
    assert "disabled" in run("keys", "list", LIMITED).output
    free = run_json("keys", "edit", key_id, "--network", "", "--no-budgets", "--enable", "--requests-per-minute", "0")
    assert (free["networks"], free["budgets"], free["disabled_at"]) == (None, [], None)
    assert run_json("keys", "edit", key_id, "--expires-in-days", "3")["expires_at"] is not None
    assert run_json("keys", "edit", key_id, "--expires-in-days", "0")["expires_at"] is None
    shown = run("keys", "show", key_id).output
    assert "networks             all" in shown
    both = run("keys", "edit", key_id, "--budget", "5", "--no-budgets")
    assert (both.exit_code, "either --budget or --no-budgets" in both.stderr) == (2, True)
    assert run("keys", "edit", "key_x", "--name", "n").exit_code == 1


def test_a_rotated_key_has_two_secrets_until_the_overlap_ends() -> None:
    run_json("accounts", "create", LIMITED)
    created = run_json("keys", "create", LIMITED)
    rotated = run_json("keys", "rotate", created["id"], "--overlap-days", "2")
    assert rotated["api_key"] != created["api_key"]
    assert [one["ends_at"] is None for one in rotated["secrets"]] == [True, False]
    plain = run("keys", "rotate", created["id"])
    assert plain.stdout.startswith("tk0n_")
    assert f"Rotated key {created['id']}" in plain.stderr
    assert len(run_json("keys", "show", created["id"])["secrets"]) == 1
    assert run("keys", "rotate", created["id"], "--overlap-days", "8").exit_code == 2
    run_json("keys", "revoke", created["id"])
    revoked = run("keys", "rotate", created["id"])
    assert (revoked.exit_code, "revoked" in revoked.stderr) == (2, True)


def test_a_code_needs_a_reason_and_is_printed_once() -> None:
    created = run_json("codes", "create", "--tokens", "500", "--uses", "3", "--reason", "a conference")
    assert re.fullmatch("([A-Z2-9]{4}-){3}[A-Z2-9]{4}", created["code"])
    assert (created["tokens"], created["uses"]) == (500, 3)
    assert run("codes", "create", "--tokens", "5", "--reason", "x", "--expires-in-days", "1").exit_code == 0
    for invalid in (("--tokens", "0", "--reason", "x"), ("--tokens", "5", "--reason", " "), ("--tokens", "5")):
        assert run("codes", "create", *invalid).exit_code == 2
    assert created["code"].replace("-", "").encode() not in Path("tok0n.db").read_bytes()


def test_sales_commands_report_missing_orders_and_settings() -> None:
    run_json("accounts", "create", EMAIL)
    assert run_json("orders", "list", EMAIL) == []
    assert "no such order" in run("orders", "refund", "ord_none").stderr
    unset = run("payments", "reconcile")
    assert (unset.exit_code, "docs/payments.md" in unset.stderr) == (1, True)
