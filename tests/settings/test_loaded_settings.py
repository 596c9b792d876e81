"""The loaded settings: defaults, derived values and domain models."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.settings import MODEL, UPSTREAM, settings_of
from tok0n.domain.catalogue import Route
from tok0n.settings import SettingsInvalid, load, model_of
from tok0n.settings.schema import SECTIONS, TABLES, default_of, fields_of

DERIVED = {"public_url", "upstream_model", "max_output_tokens", "default_output_tokens", "connections_max"}
"""Settings whose defaults `load` derives. Other tests check their values."""


def test_without_a_file_every_setting_has_its_default() -> None:
    settings = load(None, environ={}, dotenv={}, overrides={})
    for section, struct in SECTIONS.items():
        if section != "payments":
            assert defaults_in(getattr(settings, section), struct) == defaults_of(struct)
    assert (settings.upstreams, settings.models, settings.packs, settings.payments) == ({}, {}, {}, None)


def test_every_setting_of_a_table_has_its_default() -> None:
    settings = settings_of(
        UPSTREAM + MODEL + "[token_classes.a]\ntitle = 'A'\n" + '[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "1.00"'
    )
    for section, struct in TABLES.items():
        (table,) = getattr(settings, section).values()
        assert defaults_in(table, struct) == defaults_of(struct)


def defaults_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the declared defaults, without those that `load` replaces."""
    return {
        name: default_of(field)
        for name, field in fields_of(struct).items()
        if not field.required and name not in DERIVED
    }


def defaults_in(section: msgspec.Struct, struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(section, name) for name in defaults_of(struct)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "http://127.0.0.1:8080"),
        ("host = 'gateway.lan'\nport = 81", "http://gateway.lan:81"),
        ("host = '::1'", "http://[::1]:8080"),
        ("host = '0.0.0.0'", "http://127.0.0.1:8080"),
        ("host = '::'", "http://[::1]:8080"),
        ("public_url = 'https://api.example.com/'", "https://api.example.com"),
        ("public_url = 'HTTPS://API.Example.com:443/Tok0n/'", "https://api.example.com/Tok0n"),
        ("public_url = 'http://api.example.com:80'", "http://api.example.com"),
        ("public_url = 'http://api.example.com:443/a/b'", "http://api.example.com:443/a/b"),
        ("public_url = 'http://[::1]:80/a'", "http://[::1]/a"),
    ],
)
def test_the_public_url_is_normalized_and_defaults_to_host_and_port(text: str, expected: str) -> None:
    assert settings_of(f"[server]\n{text}").server.public_url == expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("", 2_000),
        ("streams_max = 9", 2_000),
        ("streaming = true", 7_000),
        ("streaming = true\nstreams_max = 9", 2_009),
    ],
)
def test_an_upstream_has_a_connection_for_each_stream_and_2000_more(server: str, expected: int) -> None:
    assert settings_of(f"[server]\n{server}\n{UPSTREAM}").upstreams["openai"].connections_max == expected
    set_by_hand = settings_of(f"[server]\n{server}\n{UPSTREAM}connections_max = 3")
    assert set_by_hand.upstreams["openai"].connections_max == 3


@pytest.mark.parametrize(
    ("price", "cents"), [("5.00", 500), ("5", 500), ("0.01", 1), ("0.50", 50), ("999999.99", 99999999)]
)
def test_a_price_becomes_whole_cents(price: str, cents: int) -> None:
    pack = settings_of(f'[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "{price}"').packs["a"]
    assert (pack.price_usd_cents, pack.active) == (cents, True)


def test_every_setting_of_a_model_reaches_the_domain() -> None:
    text = """
    [upstreams.openai]
    base_url = "https://api.openai.com/v1"
    [models.big]
    upstream = "openai"
    upstream_model = "gpt-5.5"
    context_window_tokens = 400000
    endpoints = ["chat", "messages"]
    max_output_tokens = 16384
    default_output_tokens = 100
    output_limit_field = "max_tokens"
    image_tokens_max = 1
    audio_tokens_max = 2
    file_tokens_max = 3
    extra_fields = ["top_k", "messages.name"]
    tools_max = 200
    stop_sequences_max = 16
    reasoning_tokens_max = 300
    verify_output_tokens = 64
    owned_by = "us"
    token_class = "premium"
    hosted_tools = "refuse"
    anthropic_betas = ["a"]
    [token_classes.premium]
    title = "Premium tokens"
    """
    assert msgspec.structs.asdict(model_of("big", settings_of(text))) == {
        "id": "big",
        "routes": (
            Route(
                upstream="openai",
                upstream_url="https://api.openai.com/v1",
                upstream_model="gpt-5.5",
                output_limit_field="max_tokens",
            ),
        ),
        "endpoints": ("chat", "messages"),
        "context_window_tokens": 400000,
        "max_output_tokens": 16384,
        "default_output_tokens": 100,
        "image_tokens_max": 1,
        "audio_tokens_max": 2,
        "file_tokens_max": 3,
        "extra_fields": ("top_k", "messages.name"),
        "tools_max": 200,
        "stop_sequences_max": 16,
        "reasoning_tokens_max": 300,
        "verify_output_tokens": 64,
        "owned_by": "us",
        "token_class": "premium",
        "hosted_tools": "refuse",
        "anthropic_betas": ("a",),
        "streaming_endpoints": (),
    }


@pytest.mark.parametrize(("most", "default"), [(16384, 4096), (4096, 4096), (100, 100)])
def test_the_default_output_limit_never_exceeds_the_maximum(most: int, default: int) -> None:
    model = model_of("m", settings_of(f'{UPSTREAM}[models.m]\nupstream = "openai"\nmax_output_tokens = {most}'))
    assert (model.max_output_tokens, model.default_output_tokens) == (most, default)
    assert model.routes[0].upstream_model == "m"


def test_settings_cannot_be_changed() -> None:
    settings = settings_of("")
    with pytest.raises(AttributeError):
        settings.server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///tok0n.db", "etc/tok0n.db"),
        ("sqlite:///data/a.db", "etc/data/a.db"),
        ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
    ],
)
def test_a_database_path_is_relative_to_the_settings_file(tmp_path: Path, url: str, expected: str) -> None:
    Path("etc").mkdir()
    path = Path("etc/tok0n.toml")
    path.write_text(f'[database]\nurl = "{url}"')
    assert load(path, environ={}, dotenv={}, overrides={}).database.sqlite_path == tmp_path / expected


def test_without_a_file_the_database_is_in_the_current_folder(tmp_path: Path) -> None:
    assert load(None, environ={}, dotenv={}, overrides={}).database.sqlite_path == tmp_path / "tok0n.db"


def test_a_model_that_serves_embeddings_alone_needs_no_output_limit() -> None:
    text = UPSTREAM + '[models.m]\nupstream = "openai"\nendpoints = '
    assert model_of("m", settings_of(text + '["embeddings"]')).endpoints == ("embeddings",)
    for endpoints, reason in (
        ('["embeddings", "chat"]', "max_output_tokens: is missing"),
        ('["chat", "chat"]\nmax_output_tokens = 1', "endpoints: must name each endpoint once"),
        ("[]\nmax_output_tokens = 1", "endpoints: must be"),
        ('["completions"]\nmax_output_tokens = 1', "endpoints: must be"),
    ):
        with pytest.raises(SettingsInvalid, match=reason.replace(".", r"\.")):
            settings_of(text + endpoints)


@pytest.mark.parametrize(
    ("endpoints", "tokens", "is_warned"),
    [
        ('["responses"]', 31_999, True),
        ('["chat", "responses"]', 31_999, True),
        ('["responses"]', 32_000, False),
        ('["messages"]', 31_999, False),
        ('["chat"]', 31_999, False),
    ],
)
def test_a_default_output_limit_that_is_short_for_codex_gets_a_warning(
    endpoints: str, tokens: int, *, is_warned: bool
) -> None:
    model = MODEL.replace("16384", "64000") + f"default_output_tokens = {tokens}\nendpoints = {endpoints}\n"
    warnings = settings_of(UPSTREAM + model).warnings
    assert [warning.where for warning in warnings] == ['models."gpt-5.5".default_output_tokens'] * is_warned
    assert all("Codex" in warning.message for warning in warnings)
