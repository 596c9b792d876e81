"""Each setting accepts valid values and rejects others."""

import json

import pytest

from support.settings import MODEL, UPSTREAM, problems_of, settings_of
from tok0n.settings import SettingsInvalid
from tok0n.settings.rules import OWN_SEGMENTS
from tok0n.settings.schema import TABLES, fields_of


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
def test_an_allowed_origin_must_be_written_as_browsers_send_it(origins: list[str], *, is_right: bool) -> None:
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
        assert set(problems_of(f"[limits]\n{key} = {bad}")) == {f"limits.{key}"}


@pytest.mark.parametrize(
    "key", [key for key in fields_of(TABLES["models"]) if key.endswith(("_tokens", "_tokens_max"))]
)
def test_a_token_count_is_from_one_to_the_largest_exact_integer_of_json(key: str) -> None:
    text = UPSTREAM + '[models.m]\nupstream = "openai"\n'
    least = 0 if key == "reasoning_tokens_max" else 1
    for bad in (least - 1, 2**53 + 1):
        assert f"models.m.{key}" in problems_of(f"{text}{key} = {bad}")
    assert f"models.m.{key}" not in problems_of(f"{text}{key} = {2**53}\nbound = 'x'")


@pytest.mark.parametrize("id_", ["gpt-5.5", "meta/llama-4", "a", "x" * 128, "ft:gpt-4o:org::id", "~!@", "a//b"])
def test_model_ids_that_upstreams_use_are_accepted(id_: str) -> None:
    assert id_ in settings_of(UPSTREAM + MODEL.replace("gpt-5.5", id_)).models


@pytest.mark.parametrize("id_", ["", "a b", " a", "/a", "a/", "x" * 129, "ä", "a\\u0000", "a\\n"])
def test_a_model_id_that_no_path_can_hold_is_rejected(id_: str) -> None:
    with pytest.raises(SettingsInvalid, match="printable ASCII"):
        settings_of(UPSTREAM + MODEL.replace("gpt-5.5", id_))


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("server.streaming", ["true", "false"], ["1", "'maybe'"]),
        ("server.stream_hold_seconds", ["0.1", "300"], ["0", "301", "-1", "'x'"]),
        ("server.streams_max", ["1", "100_000"], ["0", "100_001", "1.5"]),
        ("server.unread_bytes_max", ["1_048_576", "1_099_511_627_776"], ["1_048_575", "1_099_511_627_777"]),
        ("upstreams.openai.stream_seconds", ["0.5", "86_400"], ["0", "86_401"]),
        ("upstreams.openai.stream_idle_seconds", ["0.5", "86_400"], ["0", "86_401"]),
        ("upstreams.openai.continuous_usage", ["true", "false"], ["0"]),
    ],
)
def test_a_setting_of_streams_is_within_its_limits(key: str, good: list[str], bad: list[str]) -> None:
    section, _, name = key.rpartition(".")
    table = UPSTREAM if section == "upstreams.openai" else f"[{section}]\n"
    for value in good:
        settings_of(f"{table}{name} = {value}\n")
    for value in bad:
        assert set(problems_of(f"{table}{name} = {value}\n")) == {key}


@pytest.mark.parametrize(
    ("body", "event", "is_right"),
    [(4_194_304, 16_777_216, True), (4_194_305, 16_777_216, False), (1_024, 4_096, True), (1_024, 4_095, False)],
)
def test_with_streaming_one_event_may_have_four_times_the_bytes_of_a_request(
    body: int, event: int, *, is_right: bool
) -> None:
    text = f"max_body_bytes = {body}\n{UPSTREAM}body_bytes_max = {event}"
    settings_of(f"[server]\n{text}")
    if is_right:
        settings_of(f"[server]\nstreaming = true\n{text}")
        return
    problems = problems_of(f"[server]\nstreaming = true\n{text}")
    assert set(problems) == {"upstreams.openai.body_bytes_max"}
    (message,) = problems.values()
    assert f"set it to {4 * body} or more, or lower server.max_body_bytes" in message


def test_the_token_counts_of_a_model_must_be_consistent() -> None:
    assert set(problems_of(UPSTREAM + MODEL + "default_output_tokens = 16385")) == {
        'models."gpt-5.5".default_output_tokens'
    }
    assert set(problems_of(UPSTREAM + MODEL + "context_window_tokens = 16383")) == {
        'models."gpt-5.5".max_output_tokens'
    }
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
def test_an_invalid_url_is_rejected_and_not_repeated(url: str) -> None:
    problems = problems_of(f'[server]\npublic_url = "{url}"\n[upstreams.a]\nbase_url = "{url}"')
    assert set(problems) == {"server.public_url", "upstreams.a.base_url"}
    assert not any("pw" in message for message in problems.values())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "https://x.example/openai/v1/", "http://[::1]:80", "http://vllm"]
)
def test_every_usual_shape_of_url_is_accepted(url: str) -> None:
    assert settings_of(f'[upstreams.a]\nbase_url = "{url}"').upstreams["a"].base_url == url


@pytest.mark.parametrize("host", ["http://x", "x y", "127.0.0.1/8", "ü"])
def test_a_host_without_a_bare_name_or_ip_is_rejected(host: str) -> None:
    assert set(problems_of(f'[server]\nhost = "{host}"')) == {"server.host"}


@pytest.mark.parametrize(
    "path",
    ["/a//b", "//", "/a//", "/..", "/a/../b", "/./a", "/a b", "/a%2fb", "/a;b", "/é", "/a?b", "/a#b", "/a?"]
    + [f"/{segment}" for segment in sorted(OWN_SEGMENTS)]
    + ["/v1/proxy/", "/docs/a", "/dashboard/"],
)
def test_a_public_url_with_a_path_that_cannot_be_served_is_rejected(path: str) -> None:
    problems = problems_of(f"[server]\npublic_url = 'https://example.com{path}'")

    assert set(problems) == {"server.public_url"}
    assert "must" in problems["server.public_url"] or "may" in problems["server.public_url"]


@pytest.mark.parametrize("url", ["http://p:3128", "http://u:pw@p:3128/"])
def test_a_proxy_is_an_http_url_with_or_without_credentials(url: str) -> None:
    assert settings_of(f'{UPSTREAM}proxy_url = "{url}"').upstreams["openai"].proxy_url == url


@pytest.mark.parametrize(
    "url", ["socks5://p", "https://p", "p:3128", "http://u:pw@p:x", "http://p/path", "http://u:pw@ p"]
)
def test_an_invalid_proxy_is_rejected_and_its_password_is_not_repeated(url: str) -> None:
    problems = problems_of(f'{UPSTREAM}proxy_url = "{url}"')
    assert set(problems) == {"upstreams.openai.proxy_url"}
    assert "pw" not in problems["upstreams.openai.proxy_url"]


@pytest.mark.parametrize(
    "price", ["5.0", "5,00", "-5.00", "5.001", "", "1e3", "\\u0665.00", "1234567.00", "5.00\\n", "0.00", "0"]
)
def test_a_price_that_is_not_exact_dollars_and_cents_is_rejected(price: str) -> None:
    assert set(problems_of(f'[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "{price}"')) == {"packs.a.price_usd"}


def test_a_price_that_is_a_float_gets_advice_to_quote_it() -> None:
    assert "in quotes" in problems_of('[packs.a]\nname = "A"\ntokens = 1\nprice_usd = 5.00')["packs.a.price_usd"]


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
def test_a_header_that_would_break_a_request_is_rejected(headers: str, where: str) -> None:
    assert set(problems_of(f'{UPSTREAM}api_key = "env:KEY"\nheaders = {headers}')) == {where}


@pytest.mark.parametrize(
    "url",
    ["tok0n.db", "sqlite://", "sqlite:///", "sqlite:////", "sqlite:///:memory:", "sqlite:///a?mode=ro", "mysql://x"],
)
def test_a_database_that_is_unknown_or_in_memory_is_rejected(url: str) -> None:
    assert set(problems_of(f'[database]\nurl = "{url}"')) == {"database.url"}


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
def test_an_invalid_database_or_redis_url_is_rejected_and_not_repeated(section: str, key: str, value: str) -> None:
    problems = problems_of(f'[{section}]\n{key} = "{value}"')
    assert set(problems) == {f"{section}.{key}"}
    assert "hunter2" not in str(problems)


def test_an_unknown_limiter_is_rejected() -> None:
    assert set(problems_of('[limits]\nbackend = "memcached://"')) == {"limits.backend"}
