"""`tok0n config check` checks the machine: folders, certificates, secrets and packages."""

import os
from pathlib import Path

import pytest
import trustme

from support.settings import MODEL, UPSTREAM, machine_problems_of, settings_of
from tok0n.settings import find_machine_problems, find_problems


def test_valid_settings_have_no_problems() -> None:
    assert machine_problems_of(UPSTREAM + MODEL) == {}


def test_postgres_and_redis_need_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[database]\nurl = "postgresql://user:p%40ss@host/db"\n[limits]\nbackend = "rediss://:p%40ss@host:6379/0"'
    settings = settings_of(text)
    assert (settings.database.is_postgres, settings.limits.is_redis) == (True, True)
    assert [problem for problem in find_machine_problems(settings) if problem.severity == "error"] == []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    problems = {
        problem.where: problem.message for problem in find_machine_problems(settings) if problem.severity == "error"
    }
    assert problems == {
        "database.url": "needs the package asyncpg: pip install 'tok0n[postgres]'.",
        "limits.backend": "needs the package redis: pip install 'tok0n[redis]'.",
    }


def test_every_missing_secret_is_reported() -> None:
    text = UPSTREAM + 'api_key = "env:A"\nheaders = { "X-B" = "env:B" }' + MODEL
    problems = machine_problems_of(text)
    assert set(problems) == {"upstreams.openai.api_key", "upstreams.openai.headers.X-B"}
    assert {problem.severity for problem in problems.values()} == {"error"}
    assert machine_problems_of(text, A="a", B="b") == {}


def test_a_database_folder_must_exist_and_be_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    good = UPSTREAM + MODEL
    assert (
        "does not exist" in machine_problems_of(good + '[database]\nurl = "sqlite:///no/a.db"')["database.url"].message
    )
    Path("folder").mkdir()
    assert "is a folder" in machine_problems_of(good + '[database]\nurl = "sqlite:///folder"')["database.url"].message
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "is not writable" in machine_problems_of(good)["database.url"].message


def test_a_ca_file_must_hold_certificates_and_is_relative_to_the_settings_file(tmp_path: Path) -> None:
    text = UPSTREAM + 'ca_file = "ca.pem"' + MODEL
    assert "No such file" in machine_problems_of(text)["upstreams.openai.ca_file"].message
    Path("ca.pem").write_text("nothing")
    assert "no certificates" in machine_problems_of(text)["upstreams.openai.ca_file"].message
    trustme.CA().cert_pem.write_to_path("ca.pem")
    assert machine_problems_of(text) == {}
    assert settings_of(text).upstreams["openai"].ca_file == str(tmp_path / "ca.pem")


def test_settings_without_models_get_a_warning() -> None:
    problems = machine_problems_of("")
    assert {where: problem.severity for where, problem in problems.items()} == {
        "upstreams": "warning",
        "models": "warning",
    }


def test_payments_need_their_secrets_and_a_pack() -> None:
    text = UPSTREAM + MODEL + '[payments]\nsecret_key = "env:A"\nwebhook_secret = "env:B"'
    problems = machine_problems_of(text)
    assert {"payments.secret_key", "payments.webhook_secret"} <= set(problems)
    assert problems["packs"].severity == "warning"


def test_a_problem_in_the_file_hides_no_problem_of_the_machine() -> None:
    Path("tok0n.toml").write_text(UPSTREAM + 'api_key = "env:A"\ntimeout_second = 3' + MODEL)
    environ = {"TOK0N_DATABASE__URL": "sqlite:///no/a.db"}
    problems = {problem.where: problem for problem in find_problems(None, environ=environ, dotenv={}, overrides={})}
    assert set(problems) == {"upstreams.openai.timeout_second", "upstreams.openai.api_key", "database.url"}
    assert problems["database.url"].message.endswith("(It comes from TOK0N_DATABASE__URL.)")


def test_a_file_that_cannot_be_read_is_a_problem() -> None:
    assert [problem.where for problem in find_problems(Path("no.toml"), environ={}, dotenv={}, overrides={})] == [
        "no.toml"
    ]
