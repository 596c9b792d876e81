"""Settings: which value wins, that every fault is told at once and acted on, and that no secret is ever shown."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from tok0n.settings import Fault, Settings, SettingsInvalid, check, find_faults, load, model_of, template
from tok0n.settings.layers import NOT_SETTINGS
from tok0n.settings.rules import OWN_SEGMENTS
from tok0n.settings.schema import SECTIONS, TABLES, default_of, fields_of

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"
PASTED = "sk-proj-Pasted0123456789"

UPSTREAM = """
[upstreams.openai]
base_url = "https://api.openai.com/v1"
"""
MODEL = """
[models."gpt-5.5"]
upstream = "openai"
max_output_tokens = 16384
"""
ALL_SETTINGS = [(section, key) for section, struct in (SECTIONS | TABLES).items() for key in fields_of(struct)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings_of(
    text: str,
    *,
    environ: Mapping[str, str] | None = None,
    dotenv: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    path = Path("tok0n.toml")
    path.write_text(text, "utf-8")
    return load(path, environ=environ or {}, dotenv=dotenv or {}, overrides=overrides or {})


def faults_of(text: str, **environ: str) -> dict[str, str]:
    with pytest.raises(SettingsInvalid) as caught:
        settings_of(text, environ=environ)
    faults = {fault.where: fault.message for fault in caught.value.faults}
    assert len(faults) == len(caught.value.faults), "each setting is faulted once"
    return faults


def machine_faults_of(text: str, **environ: str) -> dict[str, Fault]:
    return {fault.where: fault for fault in check(settings_of(text, environ=environ))}


# Where a value comes from


def test_without_a_file_everything_has_its_documented_default() -> None:
    settings = load(None, environ={}, dotenv={}, overrides={})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.server.max_body_bytes == 4 * 1024 * 1024
    assert (settings.server.body_read_seconds, settings.server.shutdown_seconds) == (30, 25)
    assert settings.database.url == "sqlite:///tok0n.db"
    assert settings.limits.backend == "memory://"
    assert settings.limits.requests_per_minute_per_key == 60
    assert settings.limits.concurrent_requests_per_account == 10
    assert settings.limits.upstream_requests_per_minute == 55
    assert (settings.catalogue.verify_interval_hours, settings.catalogue.verify_timeout_seconds) == (24, 30)
    assert (settings.logs.level, settings.logs.format) == ("info", "auto")
    assert (settings.upstreams, settings.models, settings.packs, settings.payments) == ({}, {}, {}, None)


def test_an_upstream_has_its_documented_defaults() -> None:
    upstream = settings_of(UPSTREAM).upstreams["openai"]
    assert (upstream.timeout_seconds, upstream.connect_seconds) == (120, 10)
    assert (upstream.body_bytes_max, upstream.connections_max) == (16 * 1024 * 1024, 2000)
    assert (upstream.idle_seconds, upstream.reuse_connections) == (4, True)
    assert (upstream.api_key, upstream.proxy_url, upstream.ca_file, dict(upstream.headers)) == (None, None, None, {})


def test_flags_win_over_environment_over_dotenv_over_file_over_default() -> None:
    file = "[server]\nport = 1"
    dotenv = {"TOK0N_SERVER__PORT": "2"}
    environ = {"TOK0N_SERVER__PORT": "3"}
    assert settings_of("").server.port == 8080
    assert settings_of(file).server.port == 1
    assert settings_of(file, dotenv=dotenv).server.port == 2
    assert settings_of(file, dotenv=dotenv, environ=environ).server.port == 3
    assert settings_of(file, dotenv=dotenv, environ=environ, overrides={"server.port": 4}).server.port == 4


def test_flags_reach_tables_whose_ids_have_dots() -> None:
    overrides = {"models.gpt-5.5.max_output_tokens": 7}
    assert settings_of(UPSTREAM + MODEL, overrides=overrides).models["gpt-5.5"].max_output_tokens == 7


def test_the_file_in_the_current_folder_is_read_when_none_is_named() -> None:
    Path("tok0n.toml").write_text("[server]\nport = 81")
    assert load(None, environ={}, dotenv={}, overrides={}).server.port == 81


def test_a_named_file_that_is_missing_is_a_fault_that_says_init() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(Path("other.toml"), environ={}, dotenv={}, overrides={})
    assert [fault.where for fault in caught.value.faults] == ["other.toml"]
    assert "tok0n init" in caught.value.faults[0].message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[server]\nport 8080\n", "line 2, column 6"),
        (b"[server]\nport = 1\nport = 2\n", "line 3"),
        (b"[server]\nhost = '\xff'", "not UTF-8"),
        (b"[server]\nport = " + b"9" * 5000, "number that is too long"),
        (b"a = " + b"[" * 100_000, "too many levels of nesting"),
    ],
)
def test_a_file_that_is_not_toml_is_told_with_the_place(content: bytes, told: str) -> None:
    Path("tok0n.toml").write_bytes(content)
    with pytest.raises(SettingsInvalid, match=re.escape(told)):
        load(None, environ={}, dotenv={}, overrides={})


def test_a_folder_in_the_place_of_the_file_is_a_fault() -> None:
    with pytest.raises(SettingsInvalid, match="Is a directory"):
        load(Path.cwd(), environ={}, dotenv={}, overrides={})


def test_a_byte_order_mark_does_no_harm() -> None:
    assert settings_of("\ufeff[server]\nport = 5").server.port == 5


# Names in the environment


def test_a_variable_finds_the_declared_id_whatever_its_case_and_signs() -> None:
    text = UPSTREAM + MODEL + '[models."Meta/Llama-4"]\nupstream = "openai"\nmax_output_tokens = 1'
    environ = {"TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS": "99", "TOK0N_MODELS__META_LLAMA_4__OWNED_BY": "us"}
    models = settings_of(text, environ=environ).models
    assert models["gpt-5.5"].max_output_tokens == 99
    assert models["Meta/Llama-4"].owned_by == "us"
    assert len(models) == 2


def test_an_id_that_ends_in_a_sign_or_has_two_in_a_row_is_still_found() -> None:
    text = UPSTREAM + '[models."a--b-"]\nupstream = "openai"\nmax_output_tokens = 1'
    assert (
        settings_of(text, environ={"TOK0N_MODELS__A__B___MAX_OUTPUT_TOKENS": "2"}).models["a--b-"].max_output_tokens
        == 2
    )


def test_a_variable_that_could_mean_two_ids_is_a_fault_that_names_both() -> None:
    text = UPSTREAM + MODEL + MODEL.replace("gpt-5.5", "gpt.5.5")
    faults = faults_of(text, TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS="9")
    message = faults["TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS"]
    assert "gpt-5.5" in message
    assert "gpt.5.5" in message


def test_everything_can_be_declared_by_the_environment_alone() -> None:
    environ = {
        "TOK0N_UPSTREAMS__LOCAL__BASE_URL": "http://127.0.0.1:8000/v1",
        "TOK0N_MODELS__LLAMA__UPSTREAM": "local",
        "TOK0N_MODELS__LLAMA__MAX_OUTPUT_TOKENS": "100",
    }
    settings = load(None, environ=environ, dotenv={}, overrides={})
    assert settings.models["llama"].upstream == "local"


def test_a_misspelt_id_in_the_environment_is_told_with_the_declared_one() -> None:
    message = faults_of(UPSTREAM + MODEL, TOK0N_MODELS__GPT5_5__MAX_OUTPUT_TOKENS="9")["models.gpt5_5.upstream"]
    assert "TOK0N_MODELS__GPT5_5__MAX_OUTPUT_TOKENS" in message
    assert "Did you mean gpt-5.5?" in message


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TOK0N_SERVER_PORT", "TOK0N_SERVER__PORT"),
        ("TOK0N_SERVER__PROT", "TOK0N_SERVER__PORT"),
        ("TOK0N_MODELS__GPT_5_5__MAX_OUTPUT", "TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS"),
        ("TOK0N_UPSTREAMS__BASE_URL", "TOK0N_UPSTREAMS__OPENAI__BASE_URL"),
        ("TOK0N_DATABASE__FOLDER", "TOK0N_DATABASE__URL"),
    ],
)
def test_an_unknown_variable_is_a_fault_that_names_the_nearest(name: str, nearest: str) -> None:
    assert faults_of(UPSTREAM + MODEL, **{name: "1"})[name].endswith(f"Did you mean {nearest}?")


def test_variables_of_ours_that_are_no_settings_are_left_alone() -> None:
    settings_of("", environ=dict.fromkeys(NOT_SETTINGS, "x") | {"PATH": "/bin", "HTTPS_PROXY": "http://evil"})
    assert {"TOK0N_CONFIG", "TOK0N_API_KEY"} <= NOT_SETTINGS


def test_an_empty_variable_counts_as_not_set() -> None:
    assert settings_of("[server]\nport = 5", environ={"TOK0N_SERVER__PORT": " "}).server.port == 5


@pytest.mark.parametrize(
    ("text", "expected"), [("top_k, min_p", ("top_k", "min_p")), ('["top_k", "a,b"]', ("top_k", "a,b")), ("x", ("x",))]
)
def test_a_list_in_the_environment_is_written_with_commas_or_as_json(text: str, expected: tuple[str, ...]) -> None:
    settings = settings_of(UPSTREAM + MODEL, environ={"TOK0N_MODELS__GPT_5_5__EXTRA_FIELDS": text})
    assert settings.models["gpt-5.5"].extra_fields == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("FALSE", False), ("1", True), ("0", False), ("Yes", True), ("off", False)]
)
def test_true_and_false_in_the_environment_are_read_as_people_write_them(text: str, expected: bool) -> None:  # noqa: FBT001
    pack = '[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "1.00"'
    assert settings_of(pack, environ={"TOK0N_PACKS__A__ACTIVE": text}).packs["a"].active is expected


def test_a_table_in_the_environment_is_written_as_json() -> None:
    environ = {"TOK0N_UPSTREAMS__OPENAI__HEADERS": '{"X-Team": "env:TEAM", "X-Plain": "1"}', "TEAM": "blue"}
    assert dict(settings_of(UPSTREAM, environ=environ).upstreams["openai"].headers) == {
        "X-Team": "blue",
        "X-Plain": "1",
    }


def test_a_price_in_the_environment_is_text_and_stays_exact() -> None:
    pack = '[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "1.00"'
    assert settings_of(pack, environ={"TOK0N_PACKS__A__PRICE_USD": "19.99"}).packs["a"].price_usd_cents == 1999


def test_a_wrong_value_of_the_environment_is_told_with_its_variable() -> None:
    faults = faults_of("[server]\nport = 80", TOK0N_SERVER__PORT="eighty", TOK0N_SERVER__PUBLIC_URL="example.com")
    assert faults["server.port"] == "must be an integer from 0 to 65535. (It comes from TOK0N_SERVER__PORT.)"
    assert "TOK0N_SERVER__PUBLIC_URL" in faults["server.public_url"]


# Faults


def test_all_faults_are_told_at_once_and_none_hides_another() -> None:
    faults = faults_of(
        """
        prot = 1
        [server]
        prot = 1
        port = 70000
        public_url = "nowhere"
        [sever]
        [limits]
        requests_per_minute_per_key = 0
        [upstreams.openai]
        base_url = "ftp://example.com"
        api_key = 3
        [models."gpt-5.5"]
        upstream = "opnai"
        max_output_token = 3
        default_output_tokens = "many"
        [packs]
        starter = 3
        """,
        TOK0N_LOGS__LEVEL="loud",
        TOK0N_LOG__LEVEL="info",
    )
    assert set(faults) == {
        "prot",
        "server.prot",
        "server.port",
        "server.public_url",
        "sever",
        "limits.requests_per_minute_per_key",
        "upstreams.openai.base_url",
        "upstreams.openai.api_key",
        'models."gpt-5.5".upstream',
        'models."gpt-5.5".max_output_token',
        'models."gpt-5.5".max_output_tokens',
        'models."gpt-5.5".default_output_tokens',
        "packs.starter",
        "logs.level",
        "TOK0N_LOG__LEVEL",
    }


@pytest.mark.parametrize(
    ("text", "where", "suggestion"),
    [
        ("[serve]", "serve", "Did you mean server?"),
        ("[model.x]", "model", "Did you mean models?"),
        ("[server]\nport_ = 1", "server.port_", "Did you mean port?"),
        ("[Server]", "Server", "Did you mean server?"),
        ("port = 1", "port", "Did you mean server.port?"),
        ("[server]\nlevel = 'info'", "server.level", "Did you mean logs.level?"),
        ("[database]\nfolder = 'x'", "database.folder", "lock_timeout_seconds."),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_known(text: str, where: str, suggestion: str) -> None:
    assert faults_of(text)[where].endswith(suggestion)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port = 70000", "must be an integer from 0 to 65535, not 70000."),
        ("port = -1", "must be an integer from 0 to 65535, not -1."),
        ("port = true", "must be an integer from 0 to 65535, not true."),
        ("port = 80.0", "must be an integer from 0 to 65535, not 80.0."),
        ("port = '80'", "must be an integer from 0 to 65535."),
        (f"port = 0x{'F' * 6000}", "must be an integer from 0 to 65535."),
        ("body_read_seconds = 0", "must be a number above 0, up to 3600, not 0."),
        ("body_read_seconds = 3601", "must be a number above 0, up to 3600, not 3601."),
        ("body_read_seconds = nan", "must be a number above 0, up to 3600."),
        ("body_read_seconds = inf", "must be a number above 0, up to 3600."),
        ("host = ''", "must be text in quotes, of 1 to 1000 characters, not empty."),
        ("host = {}", "must be text in quotes, of 1 to 1000 characters, not a table."),
        ("host = 1979-05-27", "must be text in quotes, of 1 to 1000 characters."),
    ],
)
def test_a_wrong_value_is_told_in_words_with_its_range(line: str, message: str) -> None:
    assert faults_of(f"[server]\n{line}") == {f"server.{line.partition(' ')[0]}": message}


@pytest.mark.parametrize("text", ["server = 3", "upstreams = 3", "[upstreams]\nopenai = 3", "server = [1]"])
def test_what_should_be_a_table_and_is_not_is_a_fault_whatever_lies_over_it(text: str) -> None:
    environ = {"TOK0N_SERVER__PORT": "1", "TOK0N_UPSTREAMS__OPENAI__BASE_URL": "http://x"}
    with pytest.raises(SettingsInvalid, match="must be a table"):
        settings_of(text, environ=environ, overrides={"server.host": "::"})


@pytest.mark.parametrize(
    ("origins", "is_right"),
    [
        ([], True),
        (["*"], True),
        (["https://app.example.com", "http://localhost:3000", "http://[::1]:8080"], True),
        (["chrome-extension://abcdef", "tauri://localhost"], True),
        (["*", "https://app.example.com"], False),
        (["https://app.example.com/"], False),
        (["https://app.example.com/x"], False),
        (["https://app.example.com:443"], False),
        (["http://app.example.com:80"], False),
        (["https://App.example.com"], False),
        (["https://*.example.com"], False),
        (["https://user@app.example.com"], False),
        (["app.example.com"], False),
        (["null"], False),
        (["http://[::1"], False),
        (["http://x:70000"], False),
        (["http://x:"], False),
        (["https://exämple.com"], False),
        (["https://x\r\ny: z"], False),
        (["https://x?y"], False),
    ],
)
def test_an_allowed_origin_is_written_as_browsers_send_it(origins: list[str], *, is_right: bool) -> None:
    text = f"[server]\ncors_origins = {json.dumps(origins)}"
    if is_right:
        assert settings_of(text).server.cors_origins == tuple(origins)
    else:
        with pytest.raises(SettingsInvalid, match=r"server\.cors_origins"):
            settings_of(text)


@pytest.mark.parametrize(
    "key", ["requests_per_minute_per_key", "concurrent_requests_per_account", "upstream_requests_per_minute"]
)
def test_a_limit_is_from_one_to_ten_million(key: str) -> None:
    for good in (1, 10_000_000):
        assert getattr(settings_of(f"[limits]\n{key} = {good}").limits, key) == good
    for bad in (0, -1, 10_000_001, "1.5", "'x'"):
        assert set(faults_of(f"[limits]\n{key} = {bad}")) == {f"limits.{key}"}


@pytest.mark.parametrize(
    "key", [key for key in fields_of(TABLES["models"]) if key.endswith(("_tokens", "_tokens_max"))]
)
def test_tokens_are_from_one_to_what_json_carries_exactly(key: str) -> None:
    text = UPSTREAM + '[models.m]\nupstream = "openai"\n'
    least = 0 if key == "reasoning_tokens_max" else 1
    for bad in (least - 1, 2**53 + 1):
        assert f"models.m.{key}" in faults_of(f"{text}{key} = {bad}")
    assert f"models.m.{key}" not in faults_of(f"{text}{key} = {2**53}\nbound = 'x'")


def test_a_choice_is_told_with_what_is_known() -> None:
    faults = faults_of(UPSTREAM + MODEL + 'bound = "o200k"\noutput_limit_field = "n"')
    assert faults['models."gpt-5.5".bound'] == 'must be "bytes".'
    assert faults['models."gpt-5.5".output_limit_field'] == 'must be one of "max_completion_tokens", "max_tokens".'


@pytest.mark.parametrize("id_", ["gpt-5.5", "meta/llama-4", "a", "x" * 128, "ft:gpt-4o:org::id", "~!@", "a//b"])
def test_ids_that_upstreams_use_are_accepted(id_: str) -> None:
    assert id_ in settings_of(UPSTREAM + MODEL.replace("gpt-5.5", id_)).models


@pytest.mark.parametrize("id_", ["", "a b", " a", "/a", "a/", "x" * 129, "ä", "a\\u0000", "a\\n"])
def test_ids_that_cannot_stand_in_a_path_or_a_log_are_refused(id_: str) -> None:
    with pytest.raises(SettingsInvalid, match="printable ASCII"):
        settings_of(UPSTREAM + MODEL.replace("gpt-5.5", id_))


def test_a_model_names_a_declared_upstream() -> None:
    assert faults_of(MODEL)['models."gpt-5.5".upstream'] == "names no declared upstream. None is declared."
    misspelt = UPSTREAM + MODEL.replace('"openai"', '"opena"')
    assert faults_of(misspelt)['models."gpt-5.5".upstream'] == "names no declared upstream. Did you mean openai?"


def test_an_upstream_that_is_wrong_itself_still_counts_as_declared() -> None:
    assert set(faults_of("[upstreams.openai]" + MODEL)) == {"upstreams.openai.base_url"}


def test_token_counts_of_a_model_fit_into_one_another() -> None:
    assert set(faults_of(UPSTREAM + MODEL + "default_output_tokens = 16385")) == {
        'models."gpt-5.5".default_output_tokens'
    }
    assert set(faults_of(UPSTREAM + MODEL + "context_window_tokens = 16383")) == {'models."gpt-5.5".max_output_tokens'}
    fitting = settings_of(UPSTREAM + MODEL + "default_output_tokens = 16384\ncontext_window_tokens = 16384")
    assert fitting.models["gpt-5.5"].default_output_tokens == 16384


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com",
        "ftp://x",
        "http://",
        "https:///v1",
        "http://x:99999",
        "http://x:0",
        "http://x y",
        "http://ü.de",
        "http://u:pw@x",
        "http://@x",
        "http://x?a=1",
        "http://x#f",
        "http://x?",
        "http://[::1",
        "http://x\\n",
    ],
)
def test_an_address_that_cannot_be_called_is_refused_and_not_repeated(url: str) -> None:
    faults = faults_of(f'[server]\npublic_url = "{url}"\n[upstreams.a]\nbase_url = "{url}"')
    assert set(faults) == {"server.public_url", "upstreams.a.base_url"}
    assert not any("pw" in message for message in faults.values())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "https://x.example/openai/v1/", "http://[::1]:80", "http://vllm"]
)
def test_addresses_of_every_usual_shape_are_accepted(url: str) -> None:
    assert settings_of(f'[upstreams.a]\nbase_url = "{url}"').upstreams["a"].base_url == url


@pytest.mark.parametrize("host", ["http://x", "x y", "127.0.0.1/8", "ü"])
def test_a_host_is_a_name_or_address_alone(host: str) -> None:
    assert set(faults_of(f'[server]\nhost = "{host}"')) == {"server.host"}


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
def test_the_public_address_follows_host_and_port_unless_it_is_given(text: str, expected: str) -> None:
    assert settings_of(f"[server]\n{text}").server.public_url == expected


@pytest.mark.parametrize(
    "path",
    ["/a//b", "//", "/a//", "/..", "/a/../b", "/./a", "/a b", "/a%2fb", "/a;b", "/é", "/a?b", "/a#b", "/a?"]
    + [f"/{segment}" for segment in sorted(OWN_SEGMENTS)]
    + ["/v1/proxy/", "/docs/a", "/dashboard/"],
)
def test_public_url_refuses_a_path_that_cannot_be_served(path: str) -> None:
    faults = faults_of(f"[server]\npublic_url = 'https://example.com{path}'")

    assert set(faults) == {"server.public_url"}
    assert "must" in faults["server.public_url"] or "may" in faults["server.public_url"]


@pytest.mark.parametrize("url", ["http://p:3128", "http://u:pw@p:3128/"])
def test_a_proxy_is_an_http_address_with_or_without_a_user(url: str) -> None:
    assert settings_of(f'{UPSTREAM}proxy_url = "{url}"').upstreams["openai"].proxy_url == url


@pytest.mark.parametrize(
    "url", ["socks5://p", "https://p", "p:3128", "http://u:pw@p:x", "http://p/path", "http://u:pw@ p"]
)
def test_another_proxy_is_refused_and_its_password_not_repeated(url: str) -> None:
    faults = faults_of(f'{UPSTREAM}proxy_url = "{url}"')
    assert set(faults) == {"upstreams.openai.proxy_url"}
    assert "pw" not in faults["upstreams.openai.proxy_url"]


@pytest.mark.parametrize(
    "price", ["5.0", "5,00", "-5.00", "5.001", "", "1e3", "\\u0665.00", "1234567.00", "5.00\\n", "0.00", "0"]
)
def test_a_price_that_is_not_exact_dollars_and_cents_is_refused(price: str) -> None:
    assert set(faults_of(f'[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "{price}"')) == {"packs.a.price_usd"}


def test_a_price_that_is_a_float_is_told_to_be_put_in_quotes() -> None:
    assert "in quotes" in faults_of('[packs.a]\nname = "A"\ntokens = 1\nprice_usd = 5.00')["packs.a.price_usd"]


@pytest.mark.parametrize(
    ("price", "cents"), [("5.00", 500), ("5", 500), ("0.01", 1), ("0.50", 50), ("999999.99", 99999999)]
)
def test_a_price_becomes_whole_cents(price: str, cents: int) -> None:
    pack = settings_of(f'[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "{price}"').packs["a"]
    assert (pack.price_usd_cents, pack.active) == (cents, True)


# Secrets


def test_a_secret_comes_from_the_environment_over_dotenv() -> None:
    text = UPSTREAM + 'api_key = "env:KEY"'
    for environ, dotenv, expected in (
        ({"KEY": "a"}, {"KEY": "b"}, "a"),
        ({}, {"KEY": "b"}, "b"),
        ({"KEY": " a\n"}, {}, "a"),
    ):
        secret = settings_of(text, environ=environ, dotenv=dotenv).upstreams["openai"].api_key
        assert secret is not None
        assert secret.resolve() == expected


def test_a_secret_file_is_relative_to_the_settings_and_loses_its_line_end() -> None:
    folder = Path("etc")
    folder.mkdir()
    (folder / "key").write_text("s3cret\r\n")
    (folder / "tok0n.toml").write_text(UPSTREAM + 'api_key = "file:key"')
    secret = load(folder / "tok0n.toml", environ={}, dotenv={}, overrides={}).upstreams["openai"].api_key
    assert secret is not None
    assert secret.resolve() == "s3cret"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("env:MISSING", "MISSING is not set"),
        ("env:EMPTY", "env:EMPTY is empty"),
        ("env:TWO_LINES", "one line"),
        ("env:UMLAUT", "one line of printable ASCII"),
        ("file:missing", "missing does not exist"),
        ("file:.", "can't be read: Is a directory"),
        ("file:empty", "file:empty is empty"),
        ("file:binary", "can't be read as a text file"),
        ("file:large", "one line"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_with_its_setting_and_never_shown(reference: str, told: str) -> None:
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfe")
    Path("large").write_text(PASTED * 10_000)
    environ = {"EMPTY": " ", "TWO_LINES": f"{PASTED}\n{PASTED}", "UMLAUT": f"{PASTED}ü"}
    secret = settings_of(f'{UPSTREAM}api_key = "{reference}"', environ=environ).upstreams["openai"].api_key
    assert secret is not None
    with pytest.raises(SettingsInvalid) as caught:
        secret.resolve()
    assert [fault.where for fault in caught.value.faults] == ["upstreams.openai.api_key"]
    assert told in str(caught.value)
    assert PASTED not in str(caught.value)


@pytest.mark.parametrize(
    "pasted",
    [PASTED, f"env:{PASTED}", "env:sk_live_Pasted0123456789", f"file:{PASTED}", f"Bearer {PASTED}", "env:", "file: "],
)
def test_a_pasted_key_is_refused_without_being_repeated(pasted: str) -> None:
    text = f'{UPSTREAM}api_key = "{pasted}"\nheaders = {{ "X-Key" = "env:{PASTED}" }}'
    text += f'\n[payments]\nsecret_key = ["{pasted}"]\nwebhook_secret = "env:A"'
    faults = faults_of(text, TOK0N_PAYMENTS__WEBHOOK_SECRET=pasted)
    assert set(faults) == {
        "upstreams.openai.api_key",
        "upstreams.openai.headers.X-Key",
        "payments.secret_key",
        "payments.webhook_secret",
    }
    assert "env:NAME" in faults["upstreams.openai.api_key"]
    assert not any("Pasted" in message for message in faults.values())


@pytest.mark.parametrize(("section", "key"), [pair for pair in ALL_SETTINGS if pair[0] in SECTIONS])
def test_a_key_pasted_into_any_setting_is_not_repeated(section: str, key: str) -> None:
    try:
        settings_of(f'[{section}]\n{key} = "{PASTED}"')
    except SettingsInvalid as error:
        assert PASTED not in str(error)  # noqa: PT017  some settings take any text


def test_no_secret_is_in_the_representation_of_settings() -> None:
    text = UPSTREAM + 'api_key = "env:KEY"\nheaders = { "X-Key" = "env:KEY", "X-Plain" = "plain-but-private" }'
    settings = settings_of(text, environ={"KEY": PASTED})
    assert settings.upstreams["openai"].headers["X-Key"] == PASTED
    for shown in (repr(settings), str(settings), f"{settings.upstreams}"):
        assert PASTED not in shown
        assert "plain-but-private" not in shown


def test_headers_give_plain_values_and_secrets_alike() -> None:
    headers = (
        settings_of(UPSTREAM + 'headers = { "X-Key" = "env:KEY", "X-Plain" = "1" }', environ={"KEY": "k"})
        .upstreams["openai"]
        .headers
    )
    assert dict(headers) == {"X-Key": "k", "X-Plain": "1"}


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ('{ "Host" = "x" }', "upstreams.openai.headers.Host"),
        ('{ "content-length" = "1" }', "upstreams.openai.headers.content-length"),
        ('{ "X-A" = "1", "x-a" = "2" }', "upstreams.openai.headers.x-a"),
        ('{ "X A" = "1" }', 'upstreams.openai.headers."X A"'),
        ('{ "X-A" = "a\\r\\nX-B: b" }', "upstreams.openai.headers.X-A"),
        ('{ "X-A" = 3 }', "upstreams.openai.headers.X-A"),
        ('{ "Authorization" = "x" }', "upstreams.openai.headers"),
        ('"X-A: b"', "upstreams.openai.headers"),
    ],
)
def test_a_header_that_would_break_or_contradict_a_request_is_refused(headers: str, where: str) -> None:
    assert set(faults_of(f'{UPSTREAM}api_key = "env:KEY"\nheaders = {headers}')) == {where}


def test_an_upstream_without_a_key_may_authorize_in_its_own_way() -> None:
    text = UPSTREAM + 'headers = { "Authorization" = "env:BASIC" }'
    assert (
        settings_of(text, environ={"BASIC": "Basic eDp5"}).upstreams["openai"].headers["Authorization"] == "Basic eDp5"
    )


# What the rest of Tok0n gets


def test_a_model_reaches_the_domain_whole() -> None:
    text = """
    [upstreams.openai]
    base_url = "https://api.openai.com/v1"
    [models.big]
    upstream = "openai"
    upstream_model = "gpt-5.5"
    context_window_tokens = 400000
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
    """
    assert msgspec.structs.asdict(model_of("big", settings_of(text))) == {
        "id": "big",
        "upstream": "openai",
        "upstream_model": "gpt-5.5",
        "upstream_url": "https://api.openai.com/v1",
        "context_window_tokens": 400000,
        "max_output_tokens": 16384,
        "default_output_tokens": 100,
        "output_limit_field": "max_tokens",
        "image_tokens_max": 1,
        "audio_tokens_max": 2,
        "file_tokens_max": 3,
        "extra_fields": ("top_k", "messages.name"),
        "tools_max": 200,
        "stop_sequences_max": 16,
        "reasoning_tokens_max": 300,
        "verify_output_tokens": 64,
        "owned_by": "us",
    }


@pytest.mark.parametrize(("most", "default"), [(16384, 4096), (4096, 4096), (100, 100)])
def test_the_default_output_limit_never_exceeds_the_largest(most: int, default: int) -> None:
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


@pytest.mark.parametrize(
    "url",
    ["tok0n.db", "sqlite://", "sqlite:///", "sqlite:////", "sqlite:///:memory:", "sqlite:///a?mode=ro", "mysql://x"],
)
def test_a_database_that_would_not_last_or_is_unknown_is_refused(url: str) -> None:
    assert set(faults_of(f'[database]\nurl = "{url}"')) == {"database.url"}


# This machine


def test_good_settings_have_no_fault_on_a_good_machine() -> None:
    assert machine_faults_of(UPSTREAM + MODEL) == {}


def test_postgres_and_redis_are_known_by_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[database]\nurl = "postgresql://user:p%40ss@host/db"\n[limits]\nbackend = "rediss://:p%40ss@host:6379/0"'
    settings = settings_of(text)
    assert (settings.database.is_postgres, settings.limits.is_redis) == (True, True)
    assert [fault for fault in check(settings) if fault.severity == "error"] == []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    faults = {fault.where: fault.message for fault in check(settings) if fault.severity == "error"}
    assert faults == {
        "database.url": "needs the package asyncpg: pip install 'tok0n[postgres]'.",
        "limits.backend": "needs the package redis: pip install 'tok0n[redis]'.",
    }


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("database", "url", "postgresql://user:hunter2@host"),
        ("database", "url", "postgresql://user:hunter2@host:port/db"),
        ("database", "url", "postgresql://user:hunter2@/db name"),
        ("limits", "backend", "redis://:hunter2@:6379"),
        ("limits", "backend", "redis://:hunter2@host:0/0"),
    ],
)
def test_an_address_that_is_wrong_is_refused_and_not_repeated(section: str, key: str, value: str) -> None:
    faults = faults_of(f'[{section}]\n{key} = "{value}"')
    assert set(faults) == {f"{section}.{key}"}
    assert "hunter2" not in str(faults)


def test_an_unknown_limiter_is_refused() -> None:
    assert set(faults_of('[limits]\nbackend = "memcached://"')) == {"limits.backend"}


def test_every_secret_that_is_missing_is_told() -> None:
    text = UPSTREAM + 'api_key = "env:A"\nheaders = { "X-B" = "env:B" }' + MODEL
    faults = machine_faults_of(text)
    assert set(faults) == {"upstreams.openai.api_key", "upstreams.openai.headers.X-B"}
    assert {fault.severity for fault in faults.values()} == {"error"}
    assert machine_faults_of(text, A="a", B="b") == {}


def test_a_database_folder_must_exist_and_be_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    good = UPSTREAM + MODEL
    assert "does not exist" in machine_faults_of(good + '[database]\nurl = "sqlite:///no/a.db"')["database.url"].message
    Path("folder").mkdir()
    assert "is a folder" in machine_faults_of(good + '[database]\nurl = "sqlite:///folder"')["database.url"].message
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "is not writable" in machine_faults_of(good)["database.url"].message


def test_a_ca_file_must_hold_certificates_and_is_relative_to_the_settings(tmp_path: Path) -> None:
    text = UPSTREAM + 'ca_file = "ca.pem"' + MODEL
    assert "No such file" in machine_faults_of(text)["upstreams.openai.ca_file"].message
    Path("ca.pem").write_text("nothing")
    assert "no certificates" in machine_faults_of(text)["upstreams.openai.ca_file"].message
    trustme.CA().cert_pem.write_to_path("ca.pem")
    assert machine_faults_of(text) == {}
    assert settings_of(text).upstreams["openai"].ca_file == str(tmp_path / "ca.pem")


def test_nothing_to_serve_is_a_warning_and_no_error() -> None:
    faults = machine_faults_of("")
    assert {where: fault.severity for where, fault in faults.items()} == {"upstreams": "warning", "models": "warning"}


def test_payments_want_their_secrets_and_something_to_sell() -> None:
    text = UPSTREAM + MODEL + '[payments]\nsecret_key = "env:A"\nwebhook_secret = "env:B"'
    faults = machine_faults_of(text)
    assert {"payments.secret_key", "payments.webhook_secret"} <= set(faults)
    assert faults["packs"].severity == "warning"


def test_what_is_wrong_in_the_file_hides_nothing_that_is_wrong_on_the_machine() -> None:
    Path("tok0n.toml").write_text(UPSTREAM + 'api_key = "env:A"\ntimeout_second = 3' + MODEL)
    environ = {"TOK0N_DATABASE__URL": "sqlite:///no/a.db"}
    faults = {fault.where: fault for fault in find_faults(None, environ=environ, dotenv={}, overrides={})}
    assert set(faults) == {"upstreams.openai.timeout_second", "upstreams.openai.api_key", "database.url"}
    assert faults["database.url"].message.endswith("(It comes from TOK0N_DATABASE__URL.)")


def test_faults_are_found_also_when_the_file_cannot_be_read() -> None:
    assert [fault.where for fault in find_faults(Path("no.toml"), environ={}, dotenv={}, overrides={})] == ["no.toml"]


# What `tok0n init` writes, and what users read


def test_the_template_has_no_fault_once_the_key_is_there() -> None:
    Path("tok0n.toml").write_text(template())
    assert find_faults(None, environ={"OPENAI_API_KEY": "k"}, dotenv={}, overrides={}) == []
    without = find_faults(None, environ={}, dotenv={}, overrides={})
    assert [fault.where for fault in without] == ["upstreams.openai.api_key"]


def test_every_commented_default_in_the_template_is_true() -> None:
    commented = load(_written(template()), environ={}, dotenv={}, overrides={})
    model = {"upstream_model": "gpt-5.5", "default_output_tokens": 4096}
    derived = {("server", "public_url"): commented.server.public_url} | {("models", k): v for k, v in model.items()}
    seen = 0
    for section, key, value, comment in _commented(template()):
        field = fields_of((SECTIONS | TABLES)[section])[key]
        if comment.startswith("not set"):
            assert field.required or not default_of(field), key
        else:
            default = derived.get((section, key), None if field.required else default_of(field))
            assert (tuple(value) if isinstance(value, list) else value) == default, key
            seen += 1
    assert seen > 20
    assert msgspec.structs.asdict(commented.models["gpt-5.5"]).items() >= model.items()


def test_the_template_still_loads_with_every_line_uncommented() -> None:
    text = re.sub(r"^# (?=\[|\w+ = )", "", template(), flags=re.MULTILINE)
    settings = load(_written(text), environ={}, dotenv={}, overrides={})
    assert settings.payments is not None
    assert settings.packs["starter"].price_usd_cents == 500
    assert list(settings.upstreams["openai"].headers) == ["OpenAI-Project"]


@pytest.mark.parametrize(("section", "key"), [pair for pair in ALL_SETTINGS if pair != ("models", "bound")])
def test_every_setting_is_in_the_template(section: str, key: str) -> None:
    uncommented = tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", template(), flags=re.MULTILINE))
    table = uncommented[section] if section in SECTIONS else next(iter(uncommented[section].values()))
    assert key in table


@pytest.mark.parametrize(("section", "key"), ALL_SETTINGS)
def test_every_setting_is_documented_with_its_default(section: str, key: str) -> None:
    row = _documented(section)[key]
    field = fields_of((SECTIONS | TABLES)[section])[key]
    if field.required:
        assert row == "required"
    elif (section, key) in {
        ("server", "public_url"),
        ("models", "upstream_model"),
        ("models", "default_output_tokens"),
    }:
        assert row != "none"
    elif default_of(field) in (None, "", (), {}):
        assert row == "none"
    else:
        default = default_of(field)
        written = json.dumps(int(default) if type(default) is float else default)
        assert re.match(r"`[^`]*`", row)[0] == f"`{written}`"  # type: ignore[index]


def test_nothing_is_documented_that_is_no_setting() -> None:
    documented = {(section, key) for section in SECTIONS | TABLES for key in _documented(section)}
    assert documented == set(ALL_SETTINGS)


def test_the_example_in_the_documentation_loads() -> None:
    example = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(example) == 1
    assert find_faults(_written(example[0]), environ={"OPENAI_API_KEY": "k"}, dotenv={}, overrides={}) == []


def _written(text: str) -> Path:
    path = Path("written.toml")
    path.write_text(text, "utf-8")
    return path


def _commented(text: str) -> Iterator[tuple[str, str, Any, str]]:
    """Section, key, value and trailing comment of each commented setting."""
    section = ""
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        if bare.startswith("["):
            section = re.split(r"[\].]", bare[1:])[0]
        elif bare != line and re.match(r"\w+ = ", bare):
            ((key, value),) = tomllib.loads(bare).items()
            yield section, key, value, bare.partition("  # ")[2].strip()


def _documented(section: str) -> dict[str, str]:
    """The default that the documentation gives, for each setting of a section."""
    heading = re.escape(section) + (r"\.\w+" if section in TABLES else "")
    found = re.search(rf"^## \[{heading}\]\n(.*?)(?=^## |\Z)", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None, section
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .* \|$", found[1], re.MULTILINE))


# Secrets that are written in the file


WRITTEN = [
    ("[database]\nurl = 'postgresql://u:hunter22@h/d'", "database.url"),
    ("[database]\nurl = 'postgresql://u@h/d?password=hunter22'", "database.url"),
    ("[limits]\nbackend = 'redis://:hunter22@h:6379/0'", "limits.backend"),
    (UPSTREAM + "proxy_url = 'http://u:hunter22@h:3128'", "upstreams.openai.proxy_url"),
    (UPSTREAM + "headers = { Authorization = 'Token hunter22' }", "upstreams.openai.headers"),
    (UPSTREAM + "headers = { X-Api-Key = 'hunter22' }", "upstreams.openai.headers"),
]


@pytest.mark.parametrize(("text", "where"), WRITTEN)
def test_config_check_refuses_a_secret_in_the_file_and_a_server_starts_with_it(text: str, where: str) -> None:
    settings_of(text)
    faults = find_faults(Path("tok0n.toml"), environ={}, dotenv={}, overrides={})
    (found,) = [fault for fault in faults if fault.where == where]
    assert found.severity == "error"
    assert "env:NAME" in found.message
    assert "hunter22" not in str(faults)
    assert not [fault for fault in check(settings_of(text)) if fault.where == where and "env:" in fault.message]


@pytest.mark.parametrize(
    "text",
    [
        "[database]\nurl = 'postgresql://u@h/d'",
        "[database]\nurl = 'env:DB'",
        "[database]\nurl = 'file:db.url'",
        "[limits]\nbackend = 'env:REDIS'",
        UPSTREAM + "headers = { Authorization = 'env:TOKEN', OpenAI-Project = 'proj' }",
        UPSTREAM + "proxy_url = 'env:PROXY'",
    ],
)
def test_config_check_accepts_references(text: str) -> None:
    environ = {"DB": "postgresql://u:p@h/d", "REDIS": "redis://:p@h/0", "TOKEN": "Token x", "PROXY": "http://u:p@h:1"}
    Path("db.url").write_text("postgresql://u:p@h/d\n")
    settings = settings_of(text, environ=environ)
    assert "env:" not in settings.database.url + settings.limits.backend
    assert settings.database.is_postgres is ("[database]" in text)
    faults = find_faults(Path("tok0n.toml"), environ=environ, dotenv={}, overrides={})
    assert not [fault for fault in faults if fault.severity == "error"]


def test_a_url_whose_reference_is_missing_is_a_fault() -> None:
    assert "NOPE is not set" in faults_of("[database]\nurl = 'env:NOPE'")["database.url"]


def test_a_password_in_an_environment_variable_is_not_written_in_the_file() -> None:
    environ = {"TOK0N_DATABASE__URL": "postgresql://u:hunter22@h/d"}
    assert settings_of("", environ=environ).database.is_postgres
    faults = find_faults(Path("tok0n.toml"), environ=environ, dotenv={}, overrides={})
    assert not [fault for fault in faults if fault.severity == "error"]


# Settings with an old name, or without effect

OLD, NEW = "concurrent_requests_per_user", "concurrent_requests_per_account"


@pytest.mark.parametrize(
    ("file", "environ", "origin"),
    [
        (f"[limits]\n{OLD} = 3", {}, ""),
        ("", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER": "3"}, "TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER"),
        (f"[limits]\n{OLD} = 3\n{NEW} = 3", {}, ""),
        (f"[limits]\n{NEW} = 3", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER": "3"}, "PER_USER"),
    ],
)
def test_the_old_name_of_a_setting_still_works_with_a_warning(file: str, environ: dict[str, str], origin: str) -> None:
    settings = settings_of(file, environ=environ)
    assert settings.limits.concurrent_requests_per_account == 3
    (warning,) = settings.warnings
    assert (warning.where, warning.severity) == (f"limits.{OLD}", "warning")
    assert f"is now called {NEW}." in warning.message
    assert origin in warning.message
    assert warning in find_faults(Path("tok0n.toml"), environ=environ, dotenv={}, overrides={})


@pytest.mark.parametrize(
    ("file", "environ"),
    [
        (f"[limits]\n{OLD} = 3\n{NEW} = 4", {}),
        (f"[limits]\n{NEW} = 10", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USER": "3"}),
        (f"[limits]\n{OLD} = 3", {"TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_ACCOUNT": "4"}),
    ],
)
def test_an_old_and_a_new_name_with_different_values_are_an_error(file: str, environ: dict[str, str]) -> None:
    message = faults_of(file, **environ)[f"limits.{OLD}"]
    assert message.startswith(f"is the old name of {NEW}, which is set to another value. Remove {OLD}.")


def test_a_wrong_value_is_reported_under_the_old_name_that_holds_it() -> None:
    assert set(faults_of(f"[limits]\n{OLD} = 0\n{NEW} = 3")) == {f"limits.{OLD}"}
    assert set(faults_of(f"[limits]\n{OLD} = 3\n{NEW} = 0")) == {f"limits.{NEW}"}


def test_no_suggestion_names_an_old_name() -> None:
    faults = faults_of(f"[limits]\n{OLD}s = 3", TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USERS="3")
    assert faults[f"limits.{OLD}s"].endswith(f"Did you mean {NEW}?")
    assert faults["TOK0N_LIMITS__CONCURRENT_REQUESTS_PER_USERS"].endswith(f"Did you mean TOK0N_LIMITS__{NEW.upper()}?")


def test_bound_is_accepted_with_a_warning_and_is_not_in_the_template() -> None:
    settings = settings_of(UPSTREAM + MODEL + 'bound = "bytes"')
    assert [(fault.where, fault.message) for fault in settings.warnings] == [
        ('models."gpt-5.5".bound', "has no effect. Remove it.")
    ]
    assert settings_of(UPSTREAM + MODEL).warnings == ()
    assert "bound" not in template()


def test_a_wrong_value_from_dotenv_names_the_file() -> None:
    with pytest.raises(SettingsInvalid, match=r"\(It comes from TOK0N_SERVER__PORT in \.env\.\)"):
        settings_of("", dotenv={"TOK0N_SERVER__PORT": "x"})


# Kubernetes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOK0N_PORT", "tcp://10.0.0.1:8080"),
        ("TOK0N_PORT", "udp://10.0.0.1:8080"),
        ("TOK0N_PORT", "sctp://10.0.0.1:8080"),
        ("TOK0N_SERVICE_HOST", "10.0.0.1"),
        ("TOK0N_SERVICE_PORT", "8080"),
        ("TOK0N_SERVICE_PORT_HTTP", "8080"),
        ("TOK0N_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("TOK0N_PORT_8080_TCP_PROTO", "tcp"),
        ("TOK0N_PORT_8080_TCP_PORT", "8080"),
        ("TOK0N_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TOK0N_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("TOK0N_REDIS_SERVICE_HOST", "10.0.0.1"),
        ("TOK0N_REDIS_MASTER_SERVICE_PORT_TCP_REDIS", "6379"),
        ("TOK0N_OPERATOR_KEY", "x"),
        ("TOK0N_API_KEY", "x"),
        ("TOK0N_BASE_URL", "x"),
        ("TOK0N_CONFIG", "x"),
    ],
)
def test_what_kubernetes_sets_beside_a_service_is_ignored(name: str, value: str) -> None:
    assert settings_of("", environ={name: value}) == settings_of("")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOK0N_PORT", "9000"),
        ("TOK0N_HOST", "tcp://10.0.0.1"),
        ("TOK0N_SERVER_PORT", "9000"),
        ("TOK0N_SERVER__PRT", "9000"),
        ("TOK0N_PORT_HTTP", "9000"),
        ("TOK0N_SERVER__PORT", "tcp://10.0.0.1:8080"),
    ],
)
def test_another_unknown_variable_stays_an_error(name: str, value: str) -> None:
    assert faults_of("", **{name: value})
