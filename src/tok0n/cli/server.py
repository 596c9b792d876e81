"""`tok0n demo`, `init`, `config`, `migrate`, `copy` and `serve`: set up and run a server."""

import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

import click

from tok0n.bootstrap import demo as demo_
from tok0n.bootstrap import serving
from tok0n.bootstrap.resources import no_extra, open_store
from tok0n.bootstrap.retired_classes import retired_class_problems
from tok0n.bootstrap.workers import supervise
from tok0n.cli.common import (
    FAILED,
    INVALID,
    command,
    config_option,
    fail,
    json_option,
    load_settings,
    print_json,
    read_dotenv,
    report_errors,
    standard_command,
)
from tok0n.domain.errors import OperatorError
from tok0n.settings import SettingsInvalid, find_machine_problems, find_problems, template

DEFAULT_PATH = Path("tok0n.toml")


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port.  [default: 8080, or a free port]")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the database in this folder.  [default: a temporary folder]",
)
@click.option("--streaming", is_flag=True, help="Accept stream: true.")
@click.option(
    "--settings",
    "more_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the settings in this file, for example [token_classes], [packs] or [models].",
)
@json_option
def demo(port: int | None, data: Path | None, more_path: Path | None, *, streaming: bool, as_json: bool) -> None:
    """Try Tok0n with a simulated upstream.

    Uses embedded storage, and creates a funded account and an API key.
    """

    def announce(ready: demo_.Demo, config_path: Path) -> None:
        if as_json:
            print_json(ready)
        else:
            click.echo(_welcome(ready, config_path, streaming=streaming))

    with (
        report_errors(as_json=as_json),
        contextlib.nullcontext(data) if data else tempfile.TemporaryDirectory(prefix="tok0n-demo-") as folder,
    ):
        folder_path = Path(folder)
        folder_path.mkdir(parents=True, exist_ok=True)
        more_settings = "" if more_path is None else _read_settings(more_path)
        _demo(
            folder_path, port=port, streaming=streaming, more_settings=more_settings, announce=announce, as_json=as_json
        )


def _read_settings(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path} can't be read as UTF-8 text: {error}.") from None


@command
async def _demo(
    folder: Path, *, port: int | None, streaming: bool, more_settings: str, announce: demo_.Announce, as_json: bool
) -> None:
    del as_json  # read by @command
    await demo_.demo(folder, port=port, streaming=streaming, more_settings=more_settings, announce=announce)


_STREAMING = """
Or as a stream, word by word. Its last chunk has the receipt. The model demo-slow streams more slowly.

curl -N $TOK0N_BASE_URL/chat/completions \\
  -H "Authorization: Bearer $TOK0N_API_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "demo", "messages": [{{"role": "user", "content": "Hello!"}}], "max_completion_tokens": 200,
       "stream": true, "stream_options": {{"include_usage": true}}}}'

python3 - <<'END'
from openai import OpenAI

client = OpenAI(base_url="{ready.base_url}", api_key="{ready.api_key}")
for chunk in client.chat.completions.create(
    model="demo",
    messages=[{{"role": "user", "content": "Hello!"}}],
    stream=True,
    stream_options={{"include_usage": True}},
):
    print(chunk.choices[0].delta.content or "" if chunk.choices else chunk.usage, end="", flush=True)
END
"""


def _welcome(ready: demo_.Demo, config_path: Path, *, streaming: bool) -> str:
    audit = f"tok0n ledger audit --config {shlex.quote(str(config_path))}"
    return f"""
Tok0n is running at {ready.base_url} with a SIMULATED upstream, without a language model.
Models: demo, demo-slow (takes 2 seconds), demo-broken (fails in various ways and charges nothing).
The account {ready.email} has {demo_.DEMO_TOKENS:,} tokens. To see it, open the dashboard:

{ready.dashboard_url}   (email: {ready.email}, password: {ready.password})

Or paste this into another terminal:

export TOK0N_BASE_URL={ready.base_url}
export TOK0N_API_KEY={ready.api_key}

curl -i $TOK0N_BASE_URL/chat/completions \\
  -H "Authorization: Bearer $TOK0N_API_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "demo", "messages": [{{"role": "user", "content": "Hello!"}}], "max_completion_tokens": 200}}'

Or with the official SDK (pip install openai):

python3 - <<'END'
from openai import OpenAI

client = OpenAI(base_url="{ready.base_url}", api_key="{ready.api_key}")
completion = client.chat.completions.create(model="demo", messages=[{{"role": "user", "content": "Hello!"}}])
print(completion.choices[0].message.content, completion.usage)
END
{_STREAMING.format(ready=ready) if streaming else ""}
Check that every token is accounted for:  {audit}
Stop with Ctrl+C.
"""


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="Write the settings to this file.",
)
@json_option
@command
async def init(config_path: Path, *, as_json: bool) -> None:
    """Write a commented settings file.

    Fails if the file exists.
    """
    try:
        with config_path.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        fail(f"{config_path} already exists. Choose another file with --config.", code=FAILED, as_json=as_json)
    except OSError as error:
        fail(f"Can't write {config_path}: {error.strerror}.", code=FAILED, as_json=as_json)
    if as_json:
        print_json({"config": str(config_path)})
    else:
        click.echo(f"Wrote {config_path}. Edit it, then run: tok0n config check")


@click.group()
def config() -> None:
    """Check the settings."""


@config.command("check")
@standard_command
async def check_config(config_path: Path | None, *, as_json: bool) -> None:
    """Report all errors in the settings; exit 2 if there are any."""
    problems = find_problems(config_path, environ=os.environ, dotenv=read_dotenv(), overrides={})
    invalid = any(problem.severity == "error" for problem in problems)
    if not invalid:
        problems += await retired_class_problems(load_settings(config_path))
    if as_json:
        print_json({"ok": not invalid, "faults": problems})
    else:
        for problem in problems:
            click.echo(f"{problem.severity}: {problem.where}: {problem.message}")
        if not invalid:
            click.echo("The settings are valid.")
    if invalid:
        sys.exit(INVALID)


@click.command()
@standard_command
async def migrate(config_path: Path | None, *, as_json: bool) -> None:
    """Update the database schema to this version."""
    async with open_store(load_settings(config_path), migrating=True) as store:
        applied = await store.database.migrate()
    if as_json:
        print_json({"applied": applied})
    else:
        click.echo(f"Applied migrations: {', '.join(applied)}." if applied else "The schema is up to date.")


@click.command("copy")
@config_option
@click.option(
    "--to",
    "url",
    metavar="env:NAME|URL",
    required=True,
    help="Copy to this empty database: postgresql://USER:PASSWORD@HOST/NAME, or env:NAME for a variable with that URL.",
)
@json_option
@command
async def copy_database(config_path: Path | None, url: str, *, as_json: bool) -> None:
    """Copy the embedded database to PostgreSQL.

    Stop the server first. Tok0n audits both databases and does not change the embedded one.
    """
    try:
        from tok0n.bootstrap.copying import copy_to_postgres  # noqa: PLC0415  requires an extra
    except ImportError as error:
        raise no_extra("postgres", error.name) from error
    target = load_settings(config_path, database__url=url).database
    if not target.is_postgres:
        fail("--to must be env:NAME or postgresql://USER:PASSWORD@HOST/NAME.", code=INVALID, as_json=as_json)
    copied = await copy_to_postgres(load_settings(config_path), target.url)
    if as_json:
        print_json(copied)
        return
    for table, rows in copied.rows.items():
        click.echo(f"{table}: {rows:,} rows")
    click.echo("Both databases passed the audit and match. Set database.url in tok0n.toml, then start the servers.")


@click.command()
@config_option
@click.option("--host", help="Listen on this address.  [default: server.host]")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port.  [default: server.port]")
@click.option("--workers", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Run this many processes.")
@click.option("--worker", is_flag=True, hidden=True, help="Run as one of several workers.")
@json_option
@command
async def serve(
    config_path: Path | None, host: str | None, port: int | None, workers: int, *, worker: bool, as_json: bool
) -> None:
    """Start the server.

    On SIGTERM or Ctrl+C, the server completes the requests in progress and exits. Several workers share one port, and
    Tok0n replaces a worker that dies.
    """
    settings = load_settings(config_path, server__host=host, server__port=port)
    problems = [problem for problem in find_machine_problems(settings) if problem.severity == "error"]
    if problems:
        raise SettingsInvalid(problems)
    if workers > 1 and not (settings.database.is_postgres and settings.limits.is_redis):
        fail(
            "Several workers need database.url = postgresql:// and limits.backend = redis://."
            " SQLite and memory:// support a single process.",
            code=INVALID,
            as_json=as_json,
        )

    def announce(url: str, set_up_url: str | None) -> None:
        if as_json:
            print_json({"base_url": f"{url}/v1", "pid": os.getpid(), "set_up_url": set_up_url})
            return
        click.echo(f"Serving the API at {url}/v1 and web pages at {settings.server.public_url or url}", err=True)
        if set_up_url is not None:
            click.echo(f"Create your operator account within a day: {set_up_url}", err=True)

    if workers > 1:
        await supervise(settings, config_path, workers=workers, announce=announce)
    else:
        await serving.serve(settings, announce=announce, worker=worker)
