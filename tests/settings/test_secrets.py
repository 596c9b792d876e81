"""Secrets are read from their sources, and no message or repr contains one."""

from pathlib import Path

import pytest

from support.settings import ALL_SETTINGS, PASTED, UPSTREAM, problems_of, settings_of
from tok0n.settings import SettingsInvalid, find_machine_problems, find_problems, load
from tok0n.settings.schema import SECTIONS


def test_a_secret_in_the_environment_wins_over_dotenv() -> None:
    text = UPSTREAM + 'api_key = "env:KEY"'
    for environ, dotenv, expected in (
        ({"KEY": "a"}, {"KEY": "b"}, "a"),
        ({}, {"KEY": "b"}, "b"),
        ({"KEY": " a\n"}, {}, "a"),
    ):
        secret = settings_of(text, environ=environ, dotenv=dotenv).upstreams["openai"].api_key
        assert secret is not None
        assert secret.resolve() == expected


def test_a_secret_file_is_relative_to_the_settings_file_and_may_end_with_a_newline() -> None:
    folder = Path("etc")
    folder.mkdir()
    (folder / "key").write_text("s3cret\r\n")
    (folder / "tok0n.toml").write_text(UPSTREAM + 'api_key = "file:key"')
    secret = load(folder / "tok0n.toml", environ={}, dotenv={}, overrides={}).upstreams["openai"].api_key
    assert secret is not None
    assert secret.resolve() == "s3cret"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("env:MISSING", "MISSING is not set"),
        ("env:EMPTY", "env:EMPTY is empty"),
        ("env:TWO_LINES", "one line"),
        ("env:UMLAUT", "one line of printable ASCII"),
        ("file:missing", "missing does not exist"),
        ("file:.", "can't be read: Is a directory"),
        ("file:empty", "file:empty is empty"),
        ("file:binary", "can't be read as a text file"),
        ("file:large", "one line"),
    ],
)
def test_an_unusable_secret_is_reported_with_its_setting_and_not_repeated(reference: str, told: str) -> None:
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfe")
    Path("large").write_text(PASTED * 10_000)
    environ = {"EMPTY": " ", "TWO_LINES": f"{PASTED}\n{PASTED}", "UMLAUT": f"{PASTED}ü"}
    secret = settings_of(f'{UPSTREAM}api_key = "{reference}"', environ=environ).upstreams["openai"].api_key
    assert secret is not None
    with pytest.raises(SettingsInvalid) as caught:
        secret.resolve()
    assert [problem.where for problem in caught.value.problems] == ["upstreams.openai.api_key"]
    assert told in str(caught.value)
    assert PASTED not in str(caught.value)


@pytest.mark.parametrize(
    "pasted",
    [PASTED, f"env:{PASTED}", "env:sk_live_Pasted0123456789", f"file:{PASTED}", f"Bearer {PASTED}", "env:", "file: "],
)
def test_a_pasted_key_is_rejected_and_not_repeated(pasted: str) -> None:
    text = f'{UPSTREAM}api_key = "{pasted}"\nheaders = {{ "X-Key" = "env:{PASTED}" }}'
    text += f'\n[payments]\nsecret_key = ["{pasted}"]\nwebhook_secret = "env:A"'
    problems = problems_of(text, TOK0N_PAYMENTS__WEBHOOK_SECRET=pasted)
    assert set(problems) == {
        "upstreams.openai.api_key",
        "upstreams.openai.headers.X-Key",
        "payments.secret_key",
        "payments.webhook_secret",
    }
    assert "env:NAME" in problems["upstreams.openai.api_key"]
    assert not any("Pasted" in message for message in problems.values())


@pytest.mark.parametrize(("section", "key"), [pair for pair in ALL_SETTINGS if pair[0] in SECTIONS])
def test_a_key_pasted_into_any_setting_is_not_repeated(section: str, key: str) -> None:
    try:
        settings_of(f'[{section}]\n{key} = "{PASTED}"')
    except SettingsInvalid as error:
        assert PASTED not in str(error)  # noqa: PT017  some settings take any text


def test_the_representation_of_settings_has_no_secret() -> None:
    text = UPSTREAM + 'api_key = "env:KEY"\nheaders = { "X-Key" = "env:KEY", "X-Plain" = "plain-but-private" }'
    settings = settings_of(text, environ={"KEY": PASTED})
    assert settings.upstreams["openai"].headers["X-Key"] == PASTED
    for shown in (repr(settings), str(settings), f"{settings.upstreams}"):
        assert PASTED not in shown
        assert "plain-but-private" not in shown


def test_an_upstream_without_a_key_may_have_an_authorization_header() -> None:
    text = UPSTREAM + 'headers = { "Authorization" = "env:BASIC" }'
    assert (
        settings_of(text, environ={"BASIC": "Basic eDp5"}).upstreams["openai"].headers["Authorization"] == "Basic eDp5"
    )


WRITTEN = [
    ("[database]\nurl = 'postgresql://u:hunter22@h/d'", "database.url"),
    ("[database]\nurl = 'postgresql://u@h/d?password=hunter22'", "database.url"),
    ("[limits]\nbackend = 'redis://:hunter22@h:6379/0'", "limits.backend"),
    (UPSTREAM + "proxy_url = 'http://u:hunter22@h:3128'", "upstreams.openai.proxy_url"),
    (UPSTREAM + "headers = { Authorization = 'Token hunter22' }", "upstreams.openai.headers"),
    (UPSTREAM + "headers = { X-Api-Key = 'hunter22' }", "upstreams.openai.headers"),
]


@pytest.mark.parametrize(("text", "where"), WRITTEN)
def test_a_secret_in_the_file_fails_config_check_but_not_the_server(text: str, where: str) -> None:
    settings_of(text)
    problems = find_problems(Path("tok0n.toml"), environ={}, dotenv={}, overrides={})
    (found,) = [problem for problem in problems if problem.where == where]
    assert found.severity == "error"
    assert "env:NAME" in found.message
    assert "hunter22" not in str(problems)
    assert not [
        problem
        for problem in find_machine_problems(settings_of(text))
        if problem.where == where and "env:" in problem.message
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[database]\nurl = 'postgresql://u@h/d'",
        "[database]\nurl = 'env:DB'",
        "[database]\nurl = 'file:db.url'",
        "[limits]\nbackend = 'env:REDIS'",
        UPSTREAM + "headers = { Authorization = 'env:TOKEN', OpenAI-Project = 'proj' }",
        UPSTREAM + "proxy_url = 'env:PROXY'",
    ],
)
def test_config_check_accepts_references(text: str) -> None:
    environ = {"DB": "postgresql://u:p@h/d", "REDIS": "redis://:p@h/0", "TOKEN": "Token x", "PROXY": "http://u:p@h:1"}
    Path("db.url").write_text("postgresql://u:p@h/d\n")
    settings = settings_of(text, environ=environ)
    assert "env:" not in settings.database.url + settings.limits.backend
    assert settings.database.is_postgres is ("[database]" in text)
    problems = find_problems(Path("tok0n.toml"), environ=environ, dotenv={}, overrides={})
    assert not [problem for problem in problems if problem.severity == "error"]


def test_a_url_whose_reference_is_missing_is_a_problem() -> None:
    assert "NOPE is not set" in problems_of("[database]\nurl = 'env:NOPE'")["database.url"]


def test_a_password_in_an_environment_variable_is_not_written_in_the_file() -> None:
    environ = {"TOK0N_DATABASE__URL": "postgresql://u:hunter22@h/d"}
    assert settings_of("", environ=environ).database.is_postgres
    problems = find_problems(Path("tok0n.toml"), environ=environ, dotenv={}, overrides={})
    assert not [problem for problem in problems if problem.severity == "error"]
