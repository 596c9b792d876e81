"""API keys: what one looks like, and that junk is known for junk without a database."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain import api_key
from tok0n.domain.errors import InvalidApiKey

KEYS = st.binary(min_size=32, max_size=32).map(api_key.make_api_key)
ALPHABET = string.digits + string.ascii_letters


@given(key=KEYS)
def test_a_key_has_the_documented_form(key: str) -> None:
    assert key.startswith("tk0n_")
    assert len(key) == 5 + 43 + 6
    assert set(key[5:]) <= set(ALPHABET)
    assert api_key.is_well_formed(key)
    assert api_key.key_from_authorization(b"Bearer " + key.encode()) == key


@given(key=KEYS, place=st.integers(5, 53), other=st.sampled_from(ALPHABET))
def test_one_changed_character_is_always_noticed(key: str, place: int, other: str) -> None:
    changed = key[:place] + other + key[place + 1 :]
    assert api_key.is_well_formed(changed) == (changed == key)


@given(text=st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    assert not api_key.is_well_formed(text)


@given(header=st.binary(max_size=200))
def test_no_header_crashes_and_none_is_repeated(header: bytes) -> None:
    with pytest.raises(InvalidApiKey) as refused:
        api_key.key_from_authorization(header)
    if len(header) > 12:
        assert header.decode("latin-1") not in refused.value.message


def test_two_keys_are_never_alike_in_what_is_stored() -> None:
    first, second = (api_key.make_api_key(bytes([n]) * 32) for n in (1, 2))
    assert api_key.digest(first) != api_key.digest(second)
    assert len(api_key.digest(first)) == 32
    assert len(api_key.shown_prefix(first)) + len(api_key.last_four(first)) < 15
