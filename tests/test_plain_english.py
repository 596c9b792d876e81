"""The docs and pages use the field's words: no phrase that we have replaced with a plain one comes back."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKED = ("README.md", "SECURITY.md", "CHANGELOG.md", "docs/**/*.md", "src/tok0n/web/templates/**/*.html")
"""Globs from the repository's root."""

BANNED = {
    r"in flight": "in progress",
    r"second factors?": "two-factor authentication",
    r"e-mails?": "email",
    r"mailed": "emailed",
    r"short way": "fast path",
    r"crowds?": "burst",
    r"(in|by|at|take) turns?": "one at a time, or paced",
    r"few at a time": "paced",
    r"chances": "random bytes",
    r"desk": "dashboard",
    r"at the most": "at most",
    r"goes? together": "the field's word: batch, group commit",
    r"pre-consume|post-consume": "reserve, settle",
    r"refused calls?|refusals?": "rejected request, rejection",
    r"API keys? that works?": "active API key",
    r"makes? (an?|the) (API )?key": "create an API key",
    r"(is|was|are|be) owed": "the amount, or the outbox",
    r"whoever|whosoever": "the user, the client, anyone who",
    r"somebody|anybody": "the user, the client, anyone",
    r"beforehand": "in advance",
    r"persons?|people": "user",
    r"normalise[ds]?|recognise[ds]?": "American spelling",
}
"""A regular expression, and what to write instead. Case and line breaks do not matter, and code is skipped."""

PAGES = sorted({page for glob in CHECKED for page in ROOT.glob(glob)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_banned_phrase_is_used(page: Path) -> None:
    prose = re.sub(r"`[^`]*`|\b\w+\.\w+", " ", page.read_text("utf-8"))  # code, and names in templates
    text = " ".join(prose.split())
    found = {
        match[0]: instead
        for phrase, instead in BANNED.items()
        for match in re.finditer(rf"\b(?:{phrase})\b", text, re.IGNORECASE)
    }
    assert found == {}


@pytest.mark.parametrize("glob", CHECKED)
def test_every_glob_finds_a_page(glob: str) -> None:
    assert list(ROOT.glob(glob)) != []
