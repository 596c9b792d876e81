"""The options, exit codes, error messages and output formats that all commands share.

Exit codes: 0 success, 1 failure, 2 invalid usage or settings. With --json, standard output is one JSON document: the
result, or `{"error": MESSAGE}`. Logs and messages go to standard error.
"""

import asyncio
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click
import dotenv
import msgspec

from tok0n.adapters import logs
from tok0n.domain.errors import (
    AccountingFailed,
    AccountSuspended,
    InvalidRequest,
    LimiterUnavailable,
    Overloaded,
    Tok0nError,
)
from tok0n.domain.ledger import STANDARD
from tok0n.settings import Settings, SettingsInvalid, SettingsProblem, load

P = ParamSpec("P")

FAILED = 1
INVALID = 2

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="TOK0N_CONFIG",
    help="Read settings from this file.  [default: tok0n.toml]",
)
class_option = click.option(
    "--class",
    "token_class",
    metavar="ID",
    default=STANDARD,
    show_default=True,
    help="Use tokens of this class, from [token_classes.ID] of the settings.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print output as one JSON document.")


def command(function: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Wrap a coroutine function as a click callback that runs it and reports its errors."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        logs.configure(level="info", style="auto")
        with report_errors(as_json=as_json):
            _require_text(kwargs)
            _run(function(*args, **kwargs))

    return run


def _require_text(arguments: Mapping[str, object]) -> None:
    """Raise `InvalidRequest` if an argument has bytes that are not text, which no database can store."""
    for name, value in arguments.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                raise InvalidRequest("This must be text in UTF-8.", param=name)


def standard_command(function: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a command's coroutine as `command` does, with the options --config and --json."""
    return config_option(json_option(command(function)))


@contextlib.contextmanager
def report_errors(*, as_json: bool) -> Iterator[None]:
    """Print expected errors as one message and exit with their code."""
    try:
        yield
    except SettingsInvalid as error:
        lines = [f"{problem.where}: {problem.message}" for problem in error.problems]
        fail("Invalid settings:\n" + "\n".join(lines), code=INVALID, as_json=as_json)
    except InvalidRequest as error:
        fail(_message(error), code=INVALID, as_json=as_json)
    except Tok0nError as error:
        fail(_message(error), code=FAILED, as_json=as_json)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}.", code=FAILED, as_json=as_json)


def _message(error: Tok0nError) -> str:
    """Return the message for the operator. For some errors, `error.message` addresses the customer instead."""
    match error:
        case AccountSuspended():
            return "The account is suspended. To reopen it, run tok0n accounts reopen EMAIL --reason TEXT."
        case AccountingFailed(detail=detail) if "malformed" in detail or "not a database" in detail:
            return f"The database is damaged ({detail}). Restore a backup: tok0n database restore PATH --overwrite"
        case AccountingFailed(detail=detail):
            return f"Database error: {detail}"
        case InvalidRequest(param=str(param)):
            return f"{param}: {error.message}"
        case LimiterUnavailable(detail=detail):
            return f"The rate limiter is unavailable: {detail}"
        case Overloaded(detail=detail):
            return f"Try again in a moment: {detail}"
    return f"{error.message} ({error.detail})" if error.detail else error.message


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415  not available on Windows
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def fail(message: str, *, code: int, as_json: bool) -> NoReturn:
    """Print an error message and exit with `code`."""
    click.echo(f"tok0n: {message}", err=True)
    if as_json:
        print_json({"error": message})
    sys.exit(code)


def load_settings(config_path: Path | None, **overrides: object) -> Settings:
    """Load the settings from flags, environment, `.env` and file, in order of precedence.

    The flag `server__port` overrides the setting `server.port`, unless it is None. Raises `SettingsInvalid`.
    """
    flags = {name.replace("__", "."): value for name, value in overrides.items() if value is not None}
    return load(config_path, environ=os.environ, dotenv=read_dotenv(), overrides=flags)


def read_dotenv() -> dict[str, str]:
    """Read `.env` in the current folder, without changing the environment. Raises `SettingsInvalid`."""
    try:
        values = dotenv.dotenv_values(".env")
    except OSError as error:
        raise SettingsInvalid(
            [SettingsProblem(where=".env", message=f"it can't be read: {error.strerror}.")]
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid([SettingsProblem(where=".env", message="it is not UTF-8 text.")]) from error
    return {name: value for name, value in values.items() if value is not None}


def print_json(document: object) -> None:
    """Print a JSON document on one line."""
    click.echo(msgspec.json.encode(document).decode())


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns. Integers are right-aligned, with thousands separators."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    click.secho("  ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)).rstrip(), bold=True)
    for row, values in zip(cells, rows, strict=True):
        padded = (
            cell.rjust(width) if isinstance(value, int) and not isinstance(value, bool) else cell.ljust(width)
            for cell, value, width in zip(row, values, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def format_time(time_us: int | None) -> str:
    """Format a Unix time in microseconds as UTC. None is "never"."""
    if time_us is None:
        return "never"
    return f"{datetime.fromtimestamp(time_us / 1_000_000, UTC):%Y-%m-%d %H:%M:%S}Z"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
