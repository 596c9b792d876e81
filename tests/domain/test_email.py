"""An email address is one addr-spec, in one spelling; everything else that mail software reads there is refused."""

import email.headerregistry
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.email import (
    DOMAIN_OCTETS_MAX,
    EMAIL_OCTETS_MAX,
    needs_smtputf8,
    parse_email,
    parse_mailbox,
)
from tok0n.domain.errors import OperatorError

VALID = {
    "ada@example.com": "ada@example.com",
    "  Ada@Example.COM ": "ada@example.com",
    "a.b+tag@sub.example.co.uk": "a.b+tag@sub.example.co.uk",
    "o'neil!#$%&*/=?^_`{|}~-@example.com": "o'neil!#$%&*/=?^_`{|}~-@example.com",
    "ada@m\u00fcnchen.de": "ada@xn--mnchen-3ya.de",
    "ada@M\u00dcNCHEN.de": "ada@xn--mnchen-3ya.de",
    "ada@mu\u0308nchen.de": "ada@xn--mnchen-3ya.de",
    "ada@xn--mnchen-3ya.de": "ada@xn--mnchen-3ya.de",
    "jos\u00e9@example.com": "jos\u00e9@example.com",
    "jose\u0301@example.com": "jos\u00e9@example.com",
    "\u7528\u6237@example.com": "\u7528\u6237@example.com",
    "ada@localhost": "ada@localhost",
    "ada@3com.com": "ada@3com.com",
    "a" * 64 + "@example.com": "a" * 64 + "@example.com",
}
INVALID = [
    "",
    "@",
    "ada",
    "ada@",
    "@example.com",
    "ada@@example.com",
    "x,victim@example.com",
    "1,victim2@example.com",
    "victim(1)@example.com",
    "victim@example.com(1)",
    "(x)victim@example.com",
    "a@b.com,c@d.com",
    "a@b.com;c@d.com",
    "a@b.com c@d.com",
    "group:a@b.com;",
    "Ada <ada@example.com>",
    "<ada@example.com>",
    '"ada"@example.com',
    '"a@b"@example.com',
    "ada\\@x@example.com",
    ".ada@example.com",
    "ada.@example.com",
    "a..b@example.com",
    "a b@example.com",
    "ada@example..com",
    "ada@.example.com",
    "ada@example.com.",
    "ada@-example.com",
    "ada@example-.com",
    "ada@exa_mple.com",
    "ada@[127.0.0.1]",
    "ada@[IPv6:::1]",
    "ada@127.0.0.1",
    "ada@example.com\r\nBcc: b@example.com",
    "ada\n@example.com",
    "ada\t@example.com",
    "ada@example.com\n",
    "\x00ada@example.com",
    "ada\x7f@example.com",
    "ada\u0085@example.com",
    "ada\u200b@example.com",
    "ada\u202e@example.com",
    "ada\ufeff@example.com",
    "ada\ud800@example.com",
    "ada@exam\u200bple\u3002com@",
    "ada@a\u3002b",
    "ada@stra\u00dfe.de",
    "ada\uff20example.com",
    "a" * 65 + "@example.com",
    "ada@" + "a" * 64 + ".com",
    "ada@" + ".".join(["a" * 63] * 4) + ".com",
    "\u00e9" * 33 + "@example.com",
    "a" * 10_000_000,
    "a@" + "\u00fc" * 1_000_000,
]


@pytest.mark.parametrize(("text", "stored"), VALID.items())
def test_an_address_has_one_stored_form(text: str, stored: str) -> None:
    assert parse_email(text) == stored
    assert parse_email(stored) == stored


@pytest.mark.parametrize("text", INVALID, ids=lambda text: repr(text[:40]))
def test_everything_else_is_refused_with_advice(text: str) -> None:
    with pytest.raises(OperatorError, match=r"name@example\.com|xn--") as refusal:
        parse_email(text)
    assert len(refusal.value.message) < 4_000


@given(text=st.text(max_size=60) | st.from_regex(r"[a-z,;:()<>\"\\ @.\-é]{1,30}@[a-z.\-ü]{1,20}", fullmatch=True))
def test_what_is_accepted_is_one_recipient_to_the_standard_library_too(text: str) -> None:
    try:
        stored = parse_email(text)
    except OperatorError:
        return
    assert parse_email(stored) == stored
    local, _, domain = stored.rpartition("@")
    assert len(stored.encode()) <= EMAIL_OCTETS_MAX
    assert len(domain) <= DOMAIN_OCTETS_MAX
    assert domain.isascii()
    assert unicodedata.is_normalized("NFC", local)
    if local.isascii():
        address = email.headerregistry.Address(addr_spec=stored)
        assert (address.username, address.domain) == (local, domain)
    assert needs_smtputf8(stored) is not local.isascii()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("noreply@example.com", "noreply@example.com"),
        ("Tok0n <noreply@Example.com>", "noreply@example.com"),
        ("<noreply@example.com>", "noreply@example.com"),
        ("Z\u00fcrich Tokens <noreply@example.com>", "noreply@example.com"),
    ],
)
def test_a_sender_may_have_a_name(text: str, address: str) -> None:
    assert parse_mailbox(text) == address


@pytest.mark.parametrize(
    "text", ["", "Tok0n", "a <b@c.com> d", "a, b <b@c.com>", "a <b@c.com>, d@e.com", "a\n<b@c.com>", "a <<b@c.com>>"]
)
def test_a_sender_is_one_address(text: str) -> None:
    with pytest.raises(OperatorError):
        parse_mailbox(text)
