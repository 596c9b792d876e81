"""No form of a configured credential survives `scrub`, and ordinary words of header fields do."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.scrub import scrub
from tok0n.domain.secret_forms import secret_forms

SECRET = "Xyz/9+w==q"
PRINTABLE = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",;&="), min_size=8, max_size=40
)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def shown(text: str, headers: dict[str, str], *, api_key: str | None = None, proxy_url: str = "") -> str:
    return scrub(text, secret_forms(api_key=api_key, headers=headers, urls=("https://llm.corp.example/v1", proxy_url)))


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "ApiKey", "Key", "Custom-Scheme"])
@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "X-Auth"])
def test_the_part_after_a_scheme_is_taken_out(scheme: str, name: str) -> None:
    headers = {name: f"{scheme} {SECRET}"}
    for form in (
        SECRET,
        SECRET.lower(),
        f"{scheme} {SECRET}",
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ):
        assert "[redacted]" in shown(f"Wrong credentials '{form}'!", headers)
        assert form not in shown(f"Wrong credentials '{form}'!", headers)


@pytest.mark.parametrize("echo", ["gatekeeper", "open sesame!", "gatekeeper:open sesame!", "open%20sesame%21"])
def test_user_and_password_of_basic_credentials_are_taken_out(echo: str) -> None:
    headers = {"Authorization": basic("gatekeeper", "open sesame!")}
    assert shown(f"No user {echo} here", headers) == "No user [redacted] here"
    encoded = headers["Authorization"].partition(" ")[2]
    assert shown(f"Got {encoded} here", headers) == "Got [redacted] here"


def test_the_credentials_of_a_proxy_are_taken_out() -> None:
    proxy_url = "http://walker:s%40cret@proxy.corp.example:3128"
    assert shown("walker s@cret s%40cret end", {}, proxy_url=proxy_url) == "[redacted] [redacted] [redacted] end"


def test_the_values_of_cookies_and_digests_are_taken_out() -> None:
    headers = {"Cookie": "session=abcdef; theme=dark", "Authorization": 'Digest username="walker", response="a0b1c2"'}
    assert shown("session abcdef of walker: a0b1c2", headers) == "session [redacted] of [redacted]: [redacted]"


def test_common_words_of_ordinary_header_fields_can_still_be_read() -> None:
    headers = {"X-Title": "The strict schema app", "OpenAI-Beta": "assistants=v2", "X-Team": "team-4711 blue"}
    text = "The schema is strict: blue app"
    assert shown(text, headers) == text
    assert shown("Team team-4711 and the strict schema app", headers) == "Team [redacted] and [redacted]"


@pytest.mark.parametrize("value", ["Basic", "Basic ", "Basic %%%", "Basic \xff", "Basic YQ==", " ", "", "Token  x"])
def test_odd_credentials_are_no_error(value: str) -> None:
    shown("The words.", {"Authorization": value}, api_key=value)


@given(secret=PRINTABLE, scheme=st.sampled_from(["Token ", "Bearer ", ""]))
def test_no_credential_survives(secret: str, scheme: str) -> None:
    for headers, api_key in (({"Authorization": scheme + secret}, None), ({}, scheme + secret)):
        assert secret not in shown(f"({secret})", headers, api_key=api_key)
    assert secret not in shown(f"({secret})", {"Authorization": basic("u", secret)})
