"""Settings and faults from the text of a settings file."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tok0n.settings import Fault, Settings, SettingsInvalid, check, load
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


def faults_of(text: str, **environ: str) -> dict[str, str]:
    """The message of each fault of a file that cannot be loaded."""
    with pytest.raises(SettingsInvalid) as caught:
        settings_of(text, environ=environ)
    faults = {fault.where: fault.message for fault in caught.value.faults}
    assert len(faults) == len(caught.value.faults), "each setting has one fault"
    return faults


def machine_faults_of(text: str, **environ: str) -> dict[str, Fault]:
    """Each fault that a file which can be loaded has on this machine."""
    return {fault.where: fault for fault in check(settings_of(text, environ=environ))}
