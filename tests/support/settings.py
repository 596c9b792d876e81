"""Settings and problems from the text of a settings file."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tok0n.settings import Settings, SettingsInvalid, SettingsProblem, find_machine_problems, load
from tok0n.settings.schema import SECTIONS, TABLES, fields_of

PASTED = "sk-proj-Pasted0123456789"

UPSTREAM = """
[upstreams.openai]
base_url = "https://api.openai.com/v1"
"""

MODEL = """
[models."gpt-5.5"]
upstream = "openai"
max_output_tokens = 16384
"""

ALL_SETTINGS = [(section, key) for section, struct in (SECTIONS | TABLES).items() for key in fields_of(struct)]


def settings_of(
    text: str,
    *,
    environ: Mapping[str, str] | None = None,
    dotenv: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Write `tok0n.toml` in the current folder and load it."""
    path = Path("tok0n.toml")
    path.write_text(text, "utf-8")
    return load(path, environ=environ or {}, dotenv=dotenv or {}, overrides=overrides or {})


def problems_of(text: str, **environ: str) -> dict[str, str]:
    """The message of each problem of a file that cannot be loaded."""
    with pytest.raises(SettingsInvalid) as caught:
        settings_of(text, environ=environ)
    problems = {problem.where: problem.message for problem in caught.value.problems}
    assert len(problems) == len(caught.value.problems), "each setting has one problem"
    return problems


def machine_problems_of(text: str, **environ: str) -> dict[str, SettingsProblem]:
    """Each problem that a file which can be loaded has on this machine."""
    return {problem.where: problem for problem in find_machine_problems(settings_of(text, environ=environ))}
