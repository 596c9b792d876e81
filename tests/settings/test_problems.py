"""All problems in the settings are reported at once, each with its location and a fix."""

import pytest

from support.settings import MODEL, UPSTREAM, problems_of, settings_of
from tok0n.settings import SettingsInvalid


def test_every_problem_is_reported_at_once() -> None:
    problems = problems_of(
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
    assert set(problems) == {
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
def test_an_unknown_name_suggests_the_nearest_name(text: str, where: str, suggestion: str) -> None:
    assert problems_of(text)[where].endswith(suggestion)


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
def test_an_invalid_value_is_reported_with_its_range(line: str, message: str) -> None:
    assert problems_of(f"[server]\n{line}") == {f"server.{line.partition(' ')[0]}": message}


@pytest.mark.parametrize("text", ["server = 3", "upstreams = 3", "[upstreams]\nopenai = 3", "server = [1]"])
def test_a_value_where_a_table_belongs_is_a_problem_even_under_overrides(text: str) -> None:
    environ = {"TOK0N_SERVER__PORT": "1", "TOK0N_UPSTREAMS__OPENAI__BASE_URL": "http://x"}
    with pytest.raises(SettingsInvalid, match="must be a table"):
        settings_of(text, environ=environ, overrides={"server.host": "::"})


def test_an_invalid_choice_is_reported_with_the_choices() -> None:
    problems = problems_of(UPSTREAM + MODEL + 'bound = "o200k"\noutput_limit_field = "n"')
    assert problems['models."gpt-5.5".bound'] == 'must be "bytes".'
    assert problems['models."gpt-5.5".output_limit_field'] == 'must be one of "max_completion_tokens", "max_tokens".'


def test_a_model_must_name_a_declared_upstream() -> None:
    assert problems_of(MODEL)['models."gpt-5.5".upstream'] == "names no declared upstream. None is declared."
    misspelt = UPSTREAM + MODEL.replace('"openai"', '"opena"')
    assert problems_of(misspelt)['models."gpt-5.5".upstream'] == "names no declared upstream. Did you mean openai?"


def test_an_upstream_with_a_problem_still_counts_as_declared() -> None:
    assert set(problems_of("[upstreams.openai]" + MODEL)) == {"upstreams.openai.base_url"}
