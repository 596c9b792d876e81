"""Environment variables: which setting each one overrides, how its value is parsed, and which ones are ignored."""

import pytest

from support.settings import MODEL, UPSTREAM, problems_of, settings_of
from tok0n.settings import SettingsInvalid, load
from tok0n.settings.layers import NOT_SETTINGS


def test_a_variable_matches_a_declared_id_in_any_case_and_punctuation() -> None:
    text = UPSTREAM + MODEL + '[models."Meta/Llama-4"]\nupstream = "openai"\nmax_output_tokens = 1'
    environ = {"TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS": "99", "TOK0N_MODELS__META_LLAMA_4__OWNED_BY": "us"}
    models = settings_of(text, environ=environ).models
    assert models["gpt-5.5"].max_output_tokens == 99
    assert models["Meta/Llama-4"].owned_by == "us"
    assert len(models) == 2


def test_a_variable_matches_an_id_with_repeated_or_final_punctuation() -> None:
    text = UPSTREAM + '[models."a--b-"]\nupstream = "openai"\nmax_output_tokens = 1'
    assert (
        settings_of(text, environ={"TOK0N_MODELS__A__B___MAX_OUTPUT_TOKENS": "2"}).models["a--b-"].max_output_tokens
        == 2
    )


def test_a_variable_that_matches_two_ids_is_a_problem_that_names_both() -> None:
    text = UPSTREAM + MODEL + MODEL.replace("gpt-5.5", "gpt.5.5")
    problems = problems_of(text, TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS="9")
    message = problems["TOK0N_MODELS__GPT_5_5__MAX_OUTPUT_TOKENS"]
    assert "gpt-5.5" in message
    assert "gpt.5.5" in message


def test_the_environment_alone_can_declare_an_upstream_and_a_model() -> None:
    environ = {
        "TOK0N_UPSTREAMS__LOCAL__BASE_URL": "http://127.0.0.1:8000/v1",
        "TOK0N_MODELS__LLAMA__UPSTREAM": "local",
        "TOK0N_MODELS__LLAMA__MAX_OUTPUT_TOKENS": "100",
    }
    settings = load(None, environ=environ, dotenv={}, overrides={})
    assert settings.models["llama"].upstream == "local"


def test_a_misspelled_id_in_the_environment_suggests_the_declared_one() -> None:
    message = problems_of(UPSTREAM + MODEL, TOK0N_MODELS__GPT5_5__MAX_OUTPUT_TOKENS="9")["models.gpt5_5.upstream"]
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
def test_an_unknown_variable_is_a_problem_that_suggests_the_nearest(name: str, nearest: str) -> None:
    assert problems_of(UPSTREAM + MODEL, **{name: "1"})[name].endswith(f"Did you mean {nearest}?")


def test_variables_that_are_not_settings_are_ignored() -> None:
    environ = dict.fromkeys(NOT_SETTINGS, "x") | {"PATH": "/bin", "HTTPS_PROXY": "http://evil"}
    assert settings_of("", environ=environ) == settings_of("")
    assert {"TOK0N_CONFIG", "TOK0N_API_KEY", "TOK0N_BASE_URL", "TOK0N_OPERATOR_KEY"} == NOT_SETTINGS


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings_of("[server]\nport = 5", environ={"TOK0N_SERVER__PORT": " "}).server.port == 5


@pytest.mark.parametrize(
    ("text", "expected"), [("top_k, min_p", ("top_k", "min_p")), ('["top_k", "a,b"]', ("top_k", "a,b")), ("x", ("x",))]
)
def test_a_list_in_the_environment_has_commas_or_is_json(text: str, expected: tuple[str, ...]) -> None:
    settings = settings_of(UPSTREAM + MODEL, environ={"TOK0N_MODELS__GPT_5_5__EXTRA_FIELDS": text})
    assert settings.models["gpt-5.5"].extra_fields == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("FALSE", False), ("1", True), ("0", False), ("Yes", True), ("off", False)]
)
def test_true_and_false_in_the_environment_have_their_usual_spellings(text: str, expected: bool) -> None:  # noqa: FBT001
    pack = '[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "1.00"'
    assert settings_of(pack, environ={"TOK0N_PACKS__A__ACTIVE": text}).packs["a"].active is expected


def test_a_table_in_the_environment_is_json() -> None:
    environ = {"TOK0N_UPSTREAMS__OPENAI__HEADERS": '{"X-Team": "env:TEAM", "X-Plain": "1"}', "TEAM": "blue"}
    assert dict(settings_of(UPSTREAM, environ=environ).upstreams["openai"].headers) == {
        "X-Team": "blue",
        "X-Plain": "1",
    }


def test_a_price_in_the_environment_stays_exact() -> None:
    pack = '[packs.a]\nname = "A"\ntokens = 1\nprice_usd = "1.00"'
    assert settings_of(pack, environ={"TOK0N_PACKS__A__PRICE_USD": "19.99"}).packs["a"].price_usd_cents == 1999


def test_an_invalid_value_from_the_environment_names_its_variable() -> None:
    problems = problems_of("[server]\nport = 80", TOK0N_SERVER__PORT="eighty", TOK0N_SERVER__PUBLIC_URL="example.com")
    assert problems["server.port"] == "must be an integer from 0 to 65535. (It comes from TOK0N_SERVER__PORT.)"
    assert "TOK0N_SERVER__PUBLIC_URL" in problems["server.public_url"]


def test_an_invalid_value_from_dotenv_names_the_file() -> None:
    with pytest.raises(SettingsInvalid, match=r"\(It comes from TOK0N_SERVER__PORT in \.env\.\)"):
        settings_of("", dotenv={"TOK0N_SERVER__PORT": "x"})


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
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_are_ignored(name: str, value: str) -> None:
    assert settings_of("", environ={name: value}) == settings_of("")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOK0N_PORT", "9000"),
        ("TOK0N_HOST", "tcp://10.0.0.1"),
        ("TOK0N_PORT_HTTP", "9000"),
        ("TOK0N_SERVER__PORT", "tcp://10.0.0.1:8080"),
    ],
)
def test_a_variable_that_only_resembles_those_of_kubernetes_is_a_problem(name: str, value: str) -> None:
    assert problems_of("", **{name: value})
