"""Renamed settings and settings without effect still load, with a warning."""

from pathlib import Path

import pytest

from support.settings import MODEL, UPSTREAM, problems_of, settings_of
from tok0n.settings import find_problems, template

OLD, NEW = "concurrent_requests_per_user", "concurrent_requests_per_account"


@pytest.mark.parametrize(
    ("file", "environ", "origin"),
    [
        (f"[limits]\n{OLD} = 3", {}, ""),
        ("", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER": "3"}, "TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER"),
        (f"[limits]\n{OLD} = 3\n{NEW} = 3", {}, ""),
        (f"[limits]\n{NEW} = 3", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER": "3"}, "PER_USER"),
    ],
)
def test_the_old_name_of_a_setting_still_works_with_a_warning(file: str, environ: dict[str, str], origin: str) -> None:
    settings = settings_of(file, environ=environ)
    assert settings.limits.concurrent_requests_per_account == 3
    (warning,) = settings.warnings
    assert (warning.where, warning.severity) == (f"limits.{OLD}", "warning")
    assert f"is now called {NEW}." in warning.message
    assert origin in warning.message
    assert warning in find_problems(Path("tok0n.toml"), environ=environ, dotenv={}, overrides={})


@pytest.mark.parametrize(
    ("file", "environ"),
    [
        (f"[limits]\n{OLD} = 3\n{NEW} = 4", {}),
        (f"[limits]\n{NEW} = 10", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER": "3"}),
        (f"[limits]\n{OLD} = 3", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_ACCOUNT": "4"}),
    ],
)
def test_an_old_and_a_new_name_with_different_values_are_an_error(file: str, environ: dict[str, str]) -> None:
    message = problems_of(file, **environ)[f"limits.{OLD}"]
    assert message.startswith(f"is the old name of {NEW}, which is set to another value. Remove {OLD}.")


def test_an_invalid_value_is_reported_under_the_old_name_that_holds_it() -> None:
    assert set(problems_of(f"[limits]\n{OLD} = 0\n{NEW} = 3")) == {f"limits.{OLD}"}
    assert set(problems_of(f"[limits]\n{OLD} = 3\n{NEW} = 0")) == {f"limits.{NEW}"}


def test_no_suggestion_names_an_old_name() -> None:
    problems = problems_of(f"[limits]\n{OLD}s = 3", TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USERS="3")
    assert problems[f"limits.{OLD}s"].endswith(f"Did you mean {NEW}?")
    assert problems["TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USERS"].endswith(
        f"Did you mean TOK0N_LIMITS__{NEW.upper()}?"
    )


def test_bound_is_accepted_with_a_warning_and_is_not_in_the_template() -> None:
    settings = settings_of(UPSTREAM + MODEL + 'bound = "bytes"')
    assert [(problem.where, problem.message) for problem in settings.warnings] == [
        ('models."gpt-5.5".bound', "has no effect. Remove it.")
    ]
    assert settings_of(UPSTREAM + MODEL).warnings == ()
    assert "bound" not in template()
