"""Passkey requests without an authenticator: challenges are bound, and no credential makes a traceback.

The right browser gets past the challenge, to a passkey that nobody has. tests/browser/test_passkeys.py really signs.
"""

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.gateways import Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.adapters.passkeys import CREDENTIAL_CHARACTERS_MAX, WebAuthn
from tok0n.domain.errors import PasskeyInvalid, PasskeyMalformed
from tok0n.domain.users import PASSKEY_LIFETIME_US, Passkey

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
PAGE = "/dashboard/settings/passkeys"
NOT_BOUND = "has expired or was started in another browser"
UNKNOWN = "recognize this passkey"
UNUSABLE = "We couldn't verify this passkey"
MALFORMED = "Your browser sent no valid passkey"


@pytest.fixture
async def site(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    more = mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more, host="localhost") as gateway:
        yield gateway


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def credential_for(challenge: str, *, attestation: bytes = b"\xa0") -> str:
    """What a browser might send for a challenge, signed by nobody."""
    client_data = encoded(json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": "x"}).encode())
    response = {"clientDataJSON": client_data, "attestationObject": encoded(attestation)}
    response |= {"authenticatorData": encoded(b"a" * 37), "signature": encoded(b"s")}
    return json.dumps({"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": response})


async def challenge_to_sign_in(visitor: Visitor) -> str:
    answer = await visitor.post("/sign-in/passkey/options", page="/sign-in")
    assert answer.status_code == 200
    return str(answer.json()["challenge"])


async def challenge_to_add(visitor: Visitor) -> str:
    answer = await visitor.post(f"{PAGE}/options", page=PAGE)
    assert answer.status_code == 200
    return str(answer.json()["challenge"])


async def sign_in(visitor: Visitor, credential: str) -> tuple[int, str]:
    answer = await visitor.post("/sign-in/passkey", {"credential": credential}, page="/sign-in")
    return answer.status_code, text_of(answer)


async def add(visitor: Visitor, credential: str) -> tuple[int, str]:
    fields = {"credential": credential, "passkey_name": "phone", "passkey_password": PASSWORD, "credential_id": ""}
    answer = await visitor.post(PAGE, fields)
    return answer.status_code, text_of(answer)


async def test_a_challenge_to_sign_in_works_once_and_in_the_browser_that_asked(site: Running) -> None:
    async with Visitor(site.url) as visitor, Visitor(site.url) as thief:
        credential = credential_for(await challenge_to_sign_in(visitor))
        for cookies in (False, True):
            if cookies:
                await challenge_to_sign_in(thief)
            status, text = await sign_in(thief, credential)
            assert (status, NOT_BOUND in text) == (422, True)
        for words in (UNKNOWN, NOT_BOUND):
            status, text = await sign_in(visitor, credential)
            assert (status, words in text) == (422, True), text
        cookie = next(cookie for cookie in visitor.cookies.jar if cookie.name == "tok0n-passkey")
        assert cookie.expires is not None
        assert cookie.has_nonstandard_attr("HttpOnly")


async def test_a_challenge_to_add_works_once_and_in_the_session_that_asked(site: Running, mailbox: Mailbox) -> None:
    async with Visitor(site.url) as ada, Visitor(site.url) as elsewhere, Visitor(site.url) as bob:
        await join(ada, mailbox, ADA)
        await join(bob, mailbox, "bob@example.com")
        await elsewhere.sign_in(ADA, PASSWORD)
        credential = credential_for(await challenge_to_add(ada))
        for thief in (elsewhere, bob):
            status, text = await add(thief, credential)
            assert (status, NOT_BOUND in text) == (422, True)
        for words in (UNUSABLE, NOT_BOUND):
            status, text = await add(ada, credential)
            assert (status, words in text) == (422, True), text


async def test_a_challenge_works_for_its_own_purpose_only(site: Running, mailbox: Mailbox) -> None:
    async with Visitor(site.url) as ada:
        to_sign_in = credential_for(await challenge_to_sign_in(ada))
        await join(ada, mailbox, ADA)
        to_add = credential_for(await challenge_to_add(ada))
        assert NOT_BOUND in (await add(ada, to_sign_in))[1]
        await ada.post("/sign-out", page="/dashboard")
        assert NOT_BOUND in (await sign_in(ada, to_add))[1]
        assert UNKNOWN in (await sign_in(ada, to_sign_in))[1], "another purpose didn't use it up"


async def test_a_challenge_expires(site: Running) -> None:
    async with Visitor(site.url) as visitor:
        credential = credential_for(await challenge_to_sign_in(visitor))
        await site.store.users.delete_stale(now_us=site.clock.now_us() + PASSKEY_LIFETIME_US, rows_max=10)
        assert NOT_BOUND in (await sign_in(visitor, credential))[1]


def with_client_data(client_data: bytes) -> str:
    return json.dumps({"rawId": "AAAA", "response": {"clientDataJSON": encoded(client_data)}})


GARBAGE = {
    "empty": "",
    "no JSON": "{",
    "null": "null",
    "list": "[]",
    "number": "1e999",
    "no members": "{}",
    "rawId is a number": json.dumps({"rawId": 1, "response": {"clientDataJSON": "AAAA"}}),
    "response is a list": json.dumps({"rawId": "AAAA", "response": []}),
    "client data is null": json.dumps({"rawId": "AAAA", "response": {"clientDataJSON": None}}),
    "client data is a list": json.dumps({"rawId": "AAAA", "response": {"clientDataJSON": ["AAAA"]}}),
    "client data is no base64": json.dumps({"rawId": "AAAA", "response": {"clientDataJSON": "A"}}),
    "client data is not ASCII": json.dumps({"rawId": "\u00e9", "response": {"clientDataJSON": "\u00e9"}}),
    "client data is no JSON": with_client_data(b"\xff\xfe"),
    "client data is a number": with_client_data(b"1"),
    "challenge is a number": with_client_data(b'{"challenge": 1}'),
    "challenge is no base64": with_client_data(b'{"challenge": "A"}'),
    "challenge is a lone surrogate": with_client_data(b'{"challenge": "\\ud800"}'),
    "nested as deep as fits": "[" * CREDENTIAL_CHARACTERS_MAX,
    "nested deeper": "[" * 100_000,
    "objects nested deeper": '{"a":' * 50_000,
    "nested in a member that is not read": '{"x":' + "[" * 9_000 + "]" * 9_000 + "}",
    "client data nested": with_client_data(b"[" * 10_000),
    "huge": "x" * 400_000,
}


@pytest.mark.parametrize("credential", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_no_credential(credential: str) -> None:
    with pytest.raises(PasskeyMalformed):
        WebAuthn("http://localhost", site="Example").read_response(credential)


async def test_garbage_gets_a_400_that_says_what_to_do(site: Running, mailbox: Mailbox) -> None:
    async with Visitor(site.url) as ada, Visitor(site.url) as visitor:
        await join(ada, mailbox, ADA)
        for name in ("no JSON", "rawId is a number", "nested as deep as fits", "nested deeper", "huge"):
            for answer in (await sign_in(visitor, GARBAGE[name]), await add(ada, GARBAGE[name])):
                assert (answer[0], MALFORMED in answer[1]) == (400, True), name


ATTESTATIONS = {
    "empty": b"",
    "no map": b"\x01",
    "arrays nested": b"\x81" * 9_000,
    "maps nested": b"\xa1\x61a" * 4_000,
    "tags nested": b"\xc1" * 9_000,
    "huge string": b"\x5b" + b"\xff" * 8,
    "huge array": b"\x9b" + b"\x7f" * 8,
    "authenticator data is short": b"\xa3cfmtdnonegattStmt\xa0hauthDataAA",
    "authenticator data is a number": b"\xa3cfmtdnonegattStmt\xa0hauthData\x01",
    "format is a list": b"\xa3cfmt\x80gattStmt\xa0hauthData@",
}


@pytest.mark.parametrize("attestation", ATTESTATIONS.values(), ids=ATTESTATIONS.keys())
def test_an_attestation_that_cannot_be_read_is_refused(attestation: bytes) -> None:
    credential = credential_for(encoded(b"c" * 64), attestation=attestation)
    authenticator = WebAuthn("http://localhost", site="Example")
    authenticator.read_response(credential)
    with pytest.raises(PasskeyInvalid):
        authenticator.verify_creation(credential, challenge=b"c" * 64)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
TEXT = st.binary(max_size=80).map(encoded) | st.text(max_size=20)
CREDENTIALS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXT | JSON,
        "rawId": TEXT | JSON,
        "type": st.just("public-key") | JSON,
        "response": st.fixed_dictionaries(
            {},
            optional={
                "clientDataJSON": TEXT | JSON | st.just(encoded(b'{"challenge": "Y2M"}')),
                "attestationObject": TEXT | JSON,
                "authenticatorData": TEXT | JSON,
                "signature": TEXT | JSON,
                "userHandle": TEXT | JSON,
                "transports": JSON,
            },
        )
        | JSON,
    },
)


@given(credential=CREDENTIALS.map(json.dumps) | JSON.map(json.dumps) | st.text())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_credential_raises_anything_but_that_it_is_invalid(credential: str) -> None:
    authenticator = WebAuthn("http://localhost", site="Example")
    passkey = Passkey(
        credential_id=b"c",
        user_id="p",
        public_key=b"\xa0",
        sign_count=0,
        name="n",
        created_at_us=0,
        last_used_at_us=None,
    )
    with pytest.raises(PasskeyInvalid):
        authenticator.verify_creation(credential, challenge=b"cc")
    with pytest.raises(PasskeyInvalid):
        authenticator.verify_assertion(credential, challenge=b"cc", passkey=passkey)
    with contextlib.suppress(PasskeyInvalid):
        authenticator.read_response(credential)
