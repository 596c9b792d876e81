"""Parse email addresses: one addr-spec (RFC 5321 and RFC 6531), in the normalized spelling that identifies an account.

Rejects everything else that mail software accepts in an address field, because it can redirect mail to another
recipient: display names, comments, lists, groups, quoted local parts, address literals and control characters.
"""

import re
import unicodedata

from tok0n.domain.errors import OperatorError

EMAIL_OCTETS_MAX = 254
"""RFC 5321, section 4.5.3.1.3, without the angle brackets."""

LOCAL_OCTETS_MAX = 64
DOMAIN_OCTETS_MAX = 253
TEXT_CHARACTERS_MAX = 320
"""Longer input is rejected without parsing."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_READ_DIFFERENTLY = frozenset("\u00df\u03c2\u200c\u200d")
"""Sharp s, final sigma and the joiners, which IDNA 2003 and IDNA 2008 encode differently (UTS #46, section 7)."""


def parse_email(text: str) -> str:
    """Return an address in its stored form: NFC, lower case, domain in ASCII (IDNA). Raises `OperatorError`."""
    address = unicodedata.normalize("NFC", text[: TEXT_CHARACTERS_MAX + 1]).strip(" ").lower()
    local, at_sign, domain = address.rpartition("@")
    if len(address) > TEXT_CHARACTERS_MAX or not at_sign or not _is_local(local):
        raise _invalid(text)
    email = f"{local}@{_ascii_domain(domain, text)}"
    if len(email.encode()) > EMAIL_OCTETS_MAX:
        raise _invalid(text)
    return email


def parse_mailbox(text: str) -> str:
    """Return the address of `NAME <ADDRESS>` or `ADDRESS` in its stored form. Raises `OperatorError`."""
    name, bracket, address = text.strip().partition("<")
    if not bracket:
        return parse_email(text)
    if not address.endswith(">") or any(unicodedata.category(sign) == "Cc" or sign in '<>@,;:()"\\' for sign in name):
        raise _invalid(text)
    return parse_email(address[:-1])


def needs_smtputf8(email: str) -> bool:
    """Whether only a mail server with SMTPUTF8 (RFC 6531) can deliver to this address."""
    return not email.isascii()


def _is_local(local: str) -> bool:
    """Whether `local` is a dot-atom whose non-ASCII characters are all letters, marks and numbers."""
    if len(local.encode("utf-8", "surrogatepass")) > LOCAL_OCTETS_MAX or not _LOCAL.fullmatch(local):
        return False
    return all(sign.isascii() or unicodedata.category(sign)[0] in "LMN" for sign in local)


def _ascii_domain(domain: str, text: str) -> str:
    if _READ_DIFFERENTLY & set(domain):
        raise OperatorError(f"The domain of {_quoted(text)} is ambiguous. Write it in its ASCII form (xn--).")
    labels = [_ascii_label(label) for label in domain.split(".")]
    ascii_domain = ".".join(labels)
    if not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdecimal() or len(ascii_domain) > DOMAIN_OCTETS_MAX:
        raise _invalid(text)
    return ascii_domain


def _ascii_label(label: str) -> str:
    """Return the ASCII form of a domain label, or an empty string if it has none."""
    try:
        return label.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return ""


def _invalid(text: str) -> OperatorError:
    return OperatorError(f"{_quoted(text)} is not a valid email address. Write it as name@example.com.")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…")
