"""The template of `tok0n init` and docs/configuration.md agree with the schema of the settings."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.settings import ALL_SETTINGS
from tok0n.settings import find_problems, load, template
from tok0n.settings.schema import SECTIONS, TABLES, default_of, fields_of

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_template_only_lacks_the_key_of_the_upstream() -> None:
    Path("tok0n.toml").write_text(template())
    assert find_problems(None, environ={"OPENAI_API_KEY": "k"}, dotenv={}, overrides={}) == []
    without = find_problems(None, environ={}, dotenv={}, overrides={})
    assert [problem.where for problem in without] == ["upstreams.openai.api_key"]


def test_every_commented_default_in_the_template_is_the_default() -> None:
    commented = load(_written(template()), environ={}, dotenv={}, overrides={})
    model = {"upstream_model": "gpt-5.5", "default_output_tokens": 4096}
    derived = {("server", "public_url"): commented.server.public_url} | {("models", k): v for k, v in model.items()}
    derived["upstreams", "connections_max"] = 2_000
    seen = 0
    for section, key, value, comment in _commented(template()):
        field = fields_of((SECTIONS | TABLES)[section])[key]
        if comment.startswith("not set"):
            assert field.required or not default_of(field), key
        else:
            default = derived.get((section, key), None if field.required else default_of(field))
            assert (tuple(value) if isinstance(value, list) else value) == default, key
            seen += 1
    assert seen > 20
    assert msgspec.structs.asdict(commented.models["gpt-5.5"]).items() >= model.items()


def test_the_template_still_loads_with_every_line_uncommented() -> None:
    text = re.sub(r"^# (?=\[|\w+ = )", "", template(), flags=re.MULTILINE)
    settings = load(_written(text), environ={}, dotenv={}, overrides={})
    assert settings.payments is not None
    assert settings.packs["starter"].price_usd_cents == 500
    assert list(settings.upstreams["openai"].headers) == ["OpenAI-Project"]


@pytest.mark.parametrize(("section", "key"), [pair for pair in ALL_SETTINGS if pair != ("models", "bound")])
def test_every_setting_is_in_the_template(section: str, key: str) -> None:
    uncommented = tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", template(), flags=re.MULTILINE))
    table = uncommented[section] if section in SECTIONS else next(iter(uncommented[section].values()))
    assert key in table


@pytest.mark.parametrize(("section", "key"), ALL_SETTINGS)
def test_every_setting_is_documented_with_its_default(section: str, key: str) -> None:
    row = _documented(section)[key]
    field = fields_of((SECTIONS | TABLES)[section])[key]
    if field.required:
        assert row == "required"
    elif (section, key) in {
        ("server", "public_url"),
        ("models", "upstream_model"),
        ("models", "max_output_tokens"),
        ("models", "default_output_tokens"),
        ("upstreams", "connections_max"),
    }:
        assert row != "none"
    elif default_of(field) in (None, "", (), {}):
        assert row == "none"
    else:
        default = default_of(field)
        written = json.dumps(int(default) if type(default) is float else default)
        assert re.match(r"`[^`]*`", row)[0] == f"`{written}`"  # type: ignore[index]


def test_every_documented_setting_exists() -> None:
    documented = {(section, key) for section in SECTIONS | TABLES for key in _documented(section)}
    assert documented == set(ALL_SETTINGS)


def test_the_example_in_the_documentation_loads() -> None:
    example = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(example) == 1
    assert find_problems(_written(example[0]), environ={"OPENAI_API_KEY": "k"}, dotenv={}, overrides={}) == []


def _written(text: str) -> Path:
    path = Path("written.toml")
    path.write_text(text, "utf-8")
    return path


def _commented(text: str) -> Iterator[tuple[str, str, Any, str]]:
    """Yield the section, key, value and trailing comment of each commented setting."""
    section = ""
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        if bare.startswith("["):
            section = re.split(r"[\].]", bare[1:])[0]
        elif bare != line and re.match(r"\w+ = ", bare):
            ((key, value),) = tomllib.loads(bare).items()
            yield section, key, value, bare.partition("  # ")[2].strip()


def _documented(section: str) -> dict[str, str]:
    """Return the documented default of each setting in a section."""
    heading = re.escape(section) + (r"\.\w+" if section in TABLES else "")
    match = re.search(rf"^## \[{heading}\]\n(.*?)(?=^## |\Z)", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert match is not None, section
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .* \|$", match[1], re.MULTILINE))
