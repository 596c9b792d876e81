"""A sealed secret is read by the form that sealed it, and by nobody else."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.forms import NONCE_BYTES, Submission, is_form_id

FORM_ID = "AAAAAAAAAAAAAAAAAAAAAA"
NONCE = bytes(NONCE_BYTES)
SUBMISSION = Submission(account_id="acct_1", form="api_key", form_id=FORM_ID)
SECRET = "tk0n_secret"


@given(text=st.text(max_size=300), nonce=st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_a_submission_reads_what_it_sealed(text: str, nonce: bytes) -> None:
    assert SUBMISSION.unseal(SUBMISSION.seal(text, nonce=nonce)) == text


@pytest.mark.parametrize(
    "other",
    [
        Submission(account_id="acct_1", form="api_key", form_id="BAAAAAAAAAAAAAAAAAAAAA"),
        Submission(account_id="acct_2", form="api_key", form_id=FORM_ID),
        Submission(account_id="acct_1", form="two_factor", form_id=FORM_ID),
    ],
    ids=str,
)
def test_no_other_submission_reads_it(other: Submission) -> None:
    assert other.unseal(SUBMISSION.seal(SECRET, nonce=NONCE)) is None


@given(place=st.integers(min_value=0, max_value=NONCE_BYTES + len(SECRET) + 31), bit=st.integers(0, 7))
def test_a_sealed_secret_that_was_changed_is_not_read(place: int, bit: int) -> None:
    sealed = bytearray(SUBMISSION.seal(SECRET, nonce=NONCE))
    sealed[place] ^= 1 << bit
    assert SUBMISSION.unseal(bytes(sealed)) is None


@pytest.mark.parametrize("length", range(NONCE_BYTES + 32))
def test_a_sealed_secret_that_was_cut_off_is_not_read(length: int) -> None:
    assert SUBMISSION.unseal(SUBMISSION.seal(SECRET, nonce=NONCE)[:length]) is None


def test_what_is_stored_leads_to_no_key() -> None:
    """A reader of the database has the digest and the sealed bytes: neither stands in for the form id."""
    sealed = SUBMISSION.seal(SECRET, nonce=NONCE)
    assert SECRET.encode() not in sealed
    assert FORM_ID.encode() not in sealed + SUBMISSION.digest
    tag, encrypted = sealed[-32:], sealed[NONCE_BYTES:-32]
    for key in (SUBMISSION.digest, hmac.digest(NONCE, SUBMISSION.digest, "sha256"), hashlib.sha256(NONCE).digest()):
        assert hmac.digest(key, encrypted, "sha256") != tag


def test_two_secrets_of_one_form_share_no_key_stream() -> None:
    first = SUBMISSION.seal(SECRET, nonce=NONCE)
    second = SUBMISSION.seal(SECRET, nonce=b"\x01" * NONCE_BYTES)
    assert first[NONCE_BYTES:] != second[NONCE_BYTES:]


@pytest.mark.parametrize("text", ["", "A" * 21, "A" * 23, "A" * 21 + "=", "A" * 21 + "\n", "A" * 21 + "é", "\0" * 22])
def test_only_the_shape_of_our_form_ids_is_accepted(text: str) -> None:
    assert not is_form_id(text)
    assert is_form_id(FORM_ID)
