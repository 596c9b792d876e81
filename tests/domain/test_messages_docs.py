"""The page on messages agrees with the code."""

import re
from pathlib import Path

from tok0n.domain.endpoints.error_shapes import ANTHROPIC_TYPES
from tok0n.domain.endpoints.fields import NotServed
from tok0n.domain.endpoints.messages_betas import DEFAULT_BETAS
from tok0n.domain.endpoints.messages_fields import BODY, COUNT_FIELDS, FIELDS

PAGE = (Path(__file__).parents[2] / "docs/guide/messages.md").read_text()


def section(title: str) -> str:
    """The text from a heading to the next one of any level."""
    match = re.search(rf"^#+ {title}$(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def test_the_page_lists_every_accepted_field() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ", section("Fields"), re.MULTILINE)
    assert listed == list(BODY.schema()["properties"])


def test_the_page_names_every_rejected_field() -> None:
    named = set(re.findall(r"`(\w+)`", section("What Tok0n rejects")))
    assert {name for name, field in FIELDS.items() if isinstance(field, NotServed)} <= named


def test_the_page_names_the_fields_that_a_count_lacks() -> None:
    named = re.findall(r"`(\w+)`", section("Count tokens"))
    assert {name for name in named if name in FIELDS} == set(FIELDS) - set(COUNT_FIELDS)


def test_the_page_lists_every_default_beta() -> None:
    assert tuple(re.findall(r"`([a-z0-9-]+-[0-9-]{8,10})`", section("Betas").partition("Tok0n drops")[0])) == (
        DEFAULT_BETAS
    )


def test_the_page_lists_every_type_of_error() -> None:
    named = set(re.findall(r"`(\w+)`", section("Errors")))
    assert set(ANTHROPIC_TYPES.values()) <= named
