"""Remove the operator's secrets from an upstream's error message before a customer reads it. If unsure, removes more.

The text is untrusted and is processed on the event loop, so every pattern takes linear time.
"""

import ipaddress
import re
from collections.abc import Iterable

REDACTED = "[redacted]"
CHARACTERS_MAX = 500
READ_CHARACTERS_MAX = 4_000
"""The rest of a longer text is dropped."""

_SHORT_SECRET_CHARACTERS = 8
"""A shorter secret is removed only as a whole word, because a host may be named "a"."""

_SECRETS = re.compile(
    r"(?i)"
    r"\bbearer\s+\S+"
    r"|(?<![a-z0-9])(?:sk|pk|rk|org|proj)[-_][\w*.-]{6,}"
    r"|(?<![a-z0-9])(?:key|user|asst|req)[-_](?=[a-z_-]{0,64}[0-9*])[\w*.-]{6,}"
    r"|\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"<>)\]]+"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b"
    r"|\[(?=[0-9a-f.]{0,4}:[0-9a-f.]{0,4}:)[0-9a-f:.]{2,45}(?:%\w{1,16})?\](?::\d{1,5})?"
)
_IPV6 = re.compile(r"(?i)(?<![\w:.])(?=[0-9a-f]{0,4}:)[0-9a-f:.]{2,45}+(?:%\w{1,16})?(?!\w)")
_NAMES = re.compile(r"[\w.+-]++(?:@[\w.-]++)?(?::\d{1,5}\b)?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
"""Control characters, and lone surrogates, which have no encoding."""

_TOP_LEVEL_DOMAINS = frozenset(
    {"ai", "app", "cloud", "com", "dev", "eu", "internal", "io", "lan", "local", "net", "org", "svc"}
)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return `text` on one line, without `secrets` and text that looks like a key, an id, a host or an address."""
    longest_first = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    is_truncated = len(text) > READ_CHARACTERS_MAX
    text = _CONTROLS.sub(" ", text[:READ_CHARACTERS_MAX])
    if longest_first:
        text = re.sub("|".join(map(_pattern, longest_first)), REDACTED, text, flags=re.IGNORECASE)
        if is_truncated:
            text = text[: -len(longest_first[0])]  # The truncation may have split a secret.
    text = _SECRETS.sub(REDACTED, text)
    text = _NAMES.sub(_without_host, _IPV6.sub(_without_address, text)).strip()
    return text if len(text) <= CHARACTERS_MAX else text[: CHARACTERS_MAX - 1] + "…"


def _pattern(secret: str) -> str:
    literal = re.escape(secret)
    return literal if len(secret) >= _SHORT_SECRET_CHARACTERS else rf"(?<!\w){literal}(?!\w)"


def _without_address(match: re.Match[str]) -> str:
    """Redact the match if it is an IP address. A time of day matches the pattern too."""
    address = match[0].rstrip(".")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return match[0]
    return REDACTED + match[0][len(address) :]


def _without_host(match: re.Match[str]) -> str:
    """Redact hosts, `host:port` and email addresses, but not names such as `messages.0.content`."""
    name, _, port = match[0].partition(":")
    labels = name.strip(".-+").lower().split(".")
    is_host = labels[-1] in _TOP_LEVEL_DOMAINS or port != ""
    if "@" in name or labels == ["localhost"] or (is_host and len(labels) > 1):
        return REDACTED + ("." if name.endswith(".") else "")
    return match[0]
