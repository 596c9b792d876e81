"""Email addresses: one addr-spec (RFC 5321 and RFC 6531), in the one spelling that an account is found by.

Refuses everything else that mail software reads in an address field: display names, comments, lists, groups, quoted
local parts, address literals and control characters. Each of them has sent mail to somebody else somewhere.
"""

import re
import unicodedata

from tok0n.domain.errors import OperatorError

EMAIL_OCTETS_MAX = 254
"""RFC 5321, section 4.5.3.1.3, less the angle brackets."""

LOCAL_OCTETS_MAX = 64
DOMAIN_OCTETS_MAX = 253
TEXT_CHARACTERS_MAX = 320
"""Longer input is not an address; it is not examined any further."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_READ_DIFFERENTLY = frozenset("\u00df\u03c2\u200c\u200d")
"""Sharp s, final sigma and the joiners: IDNA 2003 and IDNA 2008 make different domains of them (UTS #46, section 7)."""


def parse_email(text: str) -> str:
    """The address in its stored form: NFC, lower case, the domain in ASCII (IDNA). Raises `OperatorError`."""
    address = unicodedata.normalize("NFC", text[: TEXT_CHARACTERS_MAX + 1]).strip(" ").lower()
    local, at, domain = address.rpartition("@")
    if len(address) > TEXT_CHARACTERS_MAX or not at or not _is_local(local):
        raise _invalid(text)
    email = f"{local}@{_ascii_domain(domain, text)}"
    if len(email.encode()) > EMAIL_OCTETS_MAX:
        raise _invalid(text)
    return email


def parse_mailbox(text: str) -> str:
    """The address of `NAME <ADDRESS>`, or of an address alone, in its stored form. Raises `OperatorError`."""
    name, bracket, rest = text.strip().partition("<")
    if not bracket:
        return parse_email(text)
    if not rest.endswith(">") or any(unicodedata.category(sign) == "Cc" or sign in '<>@,;:()"\\' for sign in name):
        raise _invalid(text)
    return parse_email(rest[:-1])


def needs_smtputf8(email: str) -> bool:
    """Whether only a mail server that offers SMTPUTF8 (RFC 6531) can deliver to this address."""
    return not email.isascii()


def _is_local(local: str) -> bool:
    """Whether it is a dot-atom. Beyond ASCII it may have letters, marks and digits: nothing invisible, no controls."""
    if len(local.encode("utf-8", "surrogatepass")) > LOCAL_OCTETS_MAX or not _LOCAL.fullmatch(local):
        return False
    return all(sign.isascii() or unicodedata.category(sign)[0] in "LMN" for sign in local)


def _ascii_domain(domain: str, text: str) -> str:
    if _READ_DIFFERENTLY & set(domain):
        raise OperatorError(f"The domain of {_shown(text)} is ambiguous: write it in its ASCII form (xn--).")
    labels = [_ascii_label(label) for label in domain.split(".")]
    ascii_domain = ".".join(labels)
    if not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdecimal() or len(ascii_domain) > DOMAIN_OCTETS_MAX:
        raise _invalid(text)
    return ascii_domain


def _ascii_label(label: str) -> str:
    """The label as DNS has it; empty when it has no such form."""
    try:
        return label.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return ""


def _invalid(text: str) -> OperatorError:
    return OperatorError(f"{_shown(text)} is not a valid email address. Write it as name@example.com.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…")
