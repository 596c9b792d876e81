"""Load `Settings` from the command line, the environment, `.env` and the file."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tok0n.domain import catalogue
from tok0n.settings.convert import DEFAULT_OUTPUT_TOKENS, Conversion, SettingsTable
from tok0n.settings.layers import apply_environment, apply_flags, read_file
from tok0n.settings.machine import machine_problems
from tok0n.settings.problems import SettingsInvalid, SettingsProblem
from tok0n.settings.schema import CONNECTIONS_MAX, TABLES, Settings

_LOCAL_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing listens here
"""The loopback address that reaches a server on a wildcard address."""

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def load(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> Settings:
    """Return the settings. `overrides` ("server.port": 9000) > `environ` > `dotenv` > the file at `path` > defaults.

    Without a path, it reads tok0n.toml in the current folder if that exists. Raises `SettingsInvalid` with all errors.
    Reads only secrets that replace a whole URL. `check` reads the other secrets and files.
    """
    conversion, problems, folder = _read(path, environ=environ, dotenv=dotenv, overrides=overrides)
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise SettingsInvalid(errors)
    parts: dict[str, Any] = {section: {} for section in TABLES}
    for table in conversion.tables:
        part = table.struct(**_with_derived(table, conversion.server, folder))
        if table.id is None:
            parts[table.section] = part
        else:
            parts[table.section][table.id] = part
    return Settings(**parts, warnings=tuple(problems))


def find_problems(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> list[SettingsProblem]:
    """Return all errors and warnings of `load` and `check`, and the secrets that are written in the file."""
    try:
        conversion, problems, folder = _read(path, environ=environ, dotenv=dotenv, overrides=overrides)
    except SettingsInvalid as error:
        return error.problems
    reported = {problem.where for problem in problems}
    machine = [
        problem for problem in machine_problems(conversion.tables, folder=folder) if problem.where not in reported
    ]
    return problems + [conversion.with_origin(problem) for problem in machine] + conversion.written_secrets


def model_of(model_id: str, settings: Settings) -> catalogue.Model:
    """Convert a model's settings to the type of the domain."""
    model = settings.models[model_id]
    values = msgspec.structs.asdict(model)
    del values["bound"]
    upstream = settings.upstreams[model.upstream]
    route = catalogue.Route(
        upstream=values.pop("upstream"),
        upstream_url=upstream.base_url,
        upstream_model=values.pop("upstream_model"),
        output_limit_field=values.pop("output_limit_field"),
        continuous_usage=upstream.continuous_usage,
    )
    return catalogue.Model(id=model_id, routes=(route,), **values)


def with_port(settings: Settings, port: int) -> Settings:
    """Return the settings with another port, which also changes a `public_url` that was derived from the port."""
    server = settings.server
    is_derived = server.public_url == _public_url(server.host, server.port, "")
    url = _public_url(server.host, port, "" if is_derived else server.public_url)
    return msgspec.structs.replace(settings, server=msgspec.structs.replace(server, port=port, public_url=url))


def template() -> str:
    """Return the settings file that `tok0n init` writes. It has every setting."""
    return (resources.files("tok0n.settings") / "tok0n.toml").read_text("utf-8")


def _read(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> tuple[Conversion, list[SettingsProblem], Path]:
    raw, folder = read_file(path)
    problems = list(apply_environment(raw, environ=environ, dotenv=dotenv))
    apply_flags(raw, overrides)
    conversion = Conversion(raw, variables={**dotenv, **environ}, folder=folder)
    return conversion, problems + conversion.problems, folder


def _with_derived(table: SettingsTable, server: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Fill in settings whose default depends on others, and resolve relative paths. `server` has those of [server]."""
    values = table.values
    match table.section:
        case "server":
            return values | {"public_url": _public_url(values["host"], values["port"], values["public_url"])}
        case "database":
            return values | {"folder": folder}
        case "site":
            return values | {"logo": values["logo"] and str(folder / Path(values["logo"]).expanduser())}
        case "upstreams":
            ca_file = values["ca_file"] and str(folder / Path(values["ca_file"]).expanduser())
            streams_max = server["streams_max"] if server["streaming"] else 0
            connections_max = values["connections_max"] or streams_max + CONNECTIONS_MAX
            return values | {"ca_file": ca_file, "connections_max": connections_max}
        case "models":
            output_tokens_max = values["max_output_tokens"] or 1  # Embeddings have no output tokens.
            return values | {
                "upstream_model": values["upstream_model"] or table.id,
                "max_output_tokens": output_tokens_max,
                "default_output_tokens": values["default_output_tokens"]
                or min(DEFAULT_OUTPUT_TOKENS, output_tokens_max),
            }
    return values


def _public_url(host: str, port: int, url: str) -> str:
    """Return `url`, or a URL of host and port, normalized as browsers do.

    Scheme and host are in lower case, without a default port and a trailing slash.
    """
    host = _LOCAL_HOSTS.get(host, host)
    parts = urlsplit(url or f"http://{f'[{host}]' if ':' in host else host}:{port}")
    netloc = parts.netloc.lower().removesuffix(_DEFAULT_PORTS[parts.scheme]).removesuffix(":")
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"
