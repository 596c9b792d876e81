"""The precedence of the sources, and the problems of an unreadable file."""

import re
from pathlib import Path

import pytest

from support.settings import MODEL, UPSTREAM, settings_of
from tok0n.settings import SettingsInvalid, load


def test_flags_override_environment_then_dotenv_then_file_then_default() -> None:
    file = "[server]\nport = 1"
    dotenv = {"TOK0N_SERVER__PORT": "2"}
    environ = {"TOK0N_SERVER__PORT": "3"}
    assert settings_of("").server.port == 8080
    assert settings_of(file).server.port == 1
    assert settings_of(file, dotenv=dotenv).server.port == 2
    assert settings_of(file, dotenv=dotenv, environ=environ).server.port == 3
    assert settings_of(file, dotenv=dotenv, environ=environ, overrides={"server.port": 4}).server.port == 4


def test_a_flag_reaches_an_id_that_has_dots() -> None:
    overrides = {"models.gpt-5.5.max_output_tokens": 7}
    assert settings_of(UPSTREAM + MODEL, overrides=overrides).models["gpt-5.5"].max_output_tokens == 7


def test_the_file_in_the_current_folder_is_read_by_default() -> None:
    Path("tok0n.toml").write_text("[server]\nport = 81")
    assert load(None, environ={}, dotenv={}, overrides={}).server.port == 81


def test_a_missing_file_is_a_problem_that_suggests_init() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(Path("other.toml"), environ={}, dotenv={}, overrides={})
    assert [problem.where for problem in caught.value.problems] == ["other.toml"]
    assert "tok0n init" in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[server]\nport 8080\n", "line 2, column 6"),
        (b"[server]\nport = 1\nport = 2\n", "line 3"),
        (b"[server]\nhost = '\xff'", "not UTF-8"),
        (b"[server]\nport = " + b"9" * 5000, "number that is too long"),
        (b"a = " + b"[" * 100_000, "too many levels of nesting"),
    ],
)
def test_a_file_that_is_not_toml_is_a_problem_with_its_position(content: bytes, told: str) -> None:
    Path("tok0n.toml").write_bytes(content)
    with pytest.raises(SettingsInvalid, match=re.escape(told)):
        load(None, environ={}, dotenv={}, overrides={})


def test_a_folder_instead_of_a_file_is_a_problem() -> None:
    with pytest.raises(SettingsInvalid, match="Is a directory"):
        load(Path.cwd(), environ={}, dotenv={}, overrides={})


def test_a_byte_order_mark_is_ignored() -> None:
    assert settings_of("\ufeff[server]\nport = 5").server.port == 5
