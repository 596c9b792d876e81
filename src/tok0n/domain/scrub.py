"""Take the operator's secrets out of an upstream's words before a customer reads them: rather too much."""

import re
from collections.abc import Iterable

REDACTED = "[redacted]"
CHARACTERS_MAX = 500
READ_CHARACTERS_MAX = 4_000
"""How much of a text is looked at: an upstream's error is short, or not worth showing."""

_PATTERNS = re.compile(
    r"(?i)"
    r"\bbearer\s+\S+"
    r"|\b(?:sk|pk|rk|key|org|proj|user|asst|req)[-_][\w*.-]{6,}"
    r"|\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"<>)\]]+"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b"
    r"|\[[0-9a-f:.]{3,45}\](?::\d{1,5})?"
    r"|\b[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}:\d{1,5}\b"
    r"|\b(?:localhost|[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.(?:com|net|org|io|ai|dev|cloud|local|internal|svc|lan))\b"
    r"|[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def scrub(text: str, secrets: Iterable[str]) -> str:
    """`text` on one line without `secrets` and without anything that looks like a key, an id, a host or an address."""
    text = text[:READ_CHARACTERS_MAX]
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = re.sub(re.escape(secret), REDACTED, text, flags=re.IGNORECASE)
    text = _CONTROLS.sub(" ", _PATTERNS.sub(REDACTED, text)).strip()
    return text if len(text) <= CHARACTERS_MAX else text[: CHARACTERS_MAX - 1] + "…"
