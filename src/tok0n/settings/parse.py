"""From flags, environment, `.env` and file to `Settings`, with every fault found in one go."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tok0n.domain import catalogue
from tok0n.settings.check import cross_faults, machine_faults
from tok0n.settings.convert import Conversion, Entry
from tok0n.settings.faults import Fault, SettingsInvalid
from tok0n.settings.layers import lay_environment, lay_flags, read_file
from tok0n.settings.schema import SECTIONS, TABLES, ModelSettings, Server, Settings, UpstreamSettings
from tok0n.settings.written_secrets import written_secrets

DEFAULT_OUTPUT_TOKENS = 4_096
"""The output limit that is sent for a request without one, where the settings say nothing and the model allows it."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing listens here
"""Addresses to listen on that nobody can call, and what this machine calls itself instead."""

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What was understood, and what is wrong with it."""

    entries: list[Entry]
    faults: list[Fault]
    folder: Path
    origins: dict[str, str]


def load(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> Settings:
    """The settings. `overrides` ("server.port": 9000) > `environ` > `dotenv` > the file at `path` > defaults.

    Without a path, tok0n.toml in the current folder is read if it is there. Raises `SettingsInvalid` with all faults.
    Reads no secret, and looks at no file but this one: `check` does.
    """
    draft = _draft(path, environ=environ, dotenv=dotenv, overrides=overrides)
    if draft.faults:
        raise SettingsInvalid(draft.faults)
    return _settings(draft)


def find_faults(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> list[Fault]:
    """All that `load` and then `check` would find, in one list: what is wrong in the file hides nothing else."""
    try:
        draft = _draft(path, environ=environ, dotenv=dotenv, overrides=overrides)
    except SettingsInvalid as error:
        return error.faults
    deeper = [
        *machine_faults(draft.entries, folder=draft.folder),
        *(fault for fault in written_secrets(draft.entries) if fault.where not in draft.origins),
    ]
    return draft.faults + [_with_origin(fault, draft.origins) for fault in deeper]


def model_of(model_id: str, settings: Settings) -> catalogue.Model:
    """A declared model as the domain knows it."""
    model = settings.models[model_id]
    assert model.upstream_model is not None, "filled in by load"
    assert model.default_output_tokens is not None, "filled in by load"
    return catalogue.Model(
        id=model_id,
        upstream=model.upstream,
        upstream_model=model.upstream_model,
        upstream_url=settings.upstreams[model.upstream].base_url,
        context_window_tokens=model.context_window_tokens,
        max_output_tokens=model.max_output_tokens,
        default_output_tokens=model.default_output_tokens,
        output_limit_field=model.output_limit_field,
        image_tokens_max=model.image_tokens_max,
        audio_tokens_max=model.audio_tokens_max,
        file_tokens_max=model.file_tokens_max,
        extra_fields=model.extra_fields,
        tools_max=model.tools_max,
        stop_sequences_max=model.stop_sequences_max,
        reasoning_tokens_max=model.reasoning_tokens_max,
        verify_output_tokens=model.verify_output_tokens,
        owned_by=model.owned_by,
    )


def _draft(
    path: Path | None, *, environ: Mapping[str, str], dotenv: Mapping[str, str], overrides: Mapping[str, object]
) -> _Draft:
    raw, folder = read_file(path)
    variables = {**dotenv, **environ}
    faults = list(lay_environment(raw, variables))
    lay_flags(raw, overrides)
    conversion = Conversion(raw, variables=variables, folder=folder)
    faults += conversion.faults
    faults += cross_faults(conversion.entries)
    origins = conversion.origins
    faults = [_with_origin(fault, origins) for fault in faults]
    return _Draft(entries=conversion.entries, faults=faults, folder=folder, origins=origins)


def _with_origin(fault: Fault, origins: Mapping[str, str]) -> Fault:
    """Say where a wrong value comes from, when it is not the file."""
    variable = origins.get(fault.where)
    if variable is None:
        return fault
    return msgspec.structs.replace(fault, message=f"{fault.message} (It comes from {variable}.)")


def _settings(draft: _Draft) -> Settings:
    parts: dict[str, Any] = {section: {} for section in TABLES}
    for entry in draft.entries:
        if entry.id is None:
            parts[entry.section] = SECTIONS[entry.section](**entry.values)
        else:
            parts[entry.section][entry.id] = TABLES[entry.section](**entry.values)
    settings = Settings(**parts)
    return msgspec.structs.replace(
        settings,
        server=_with_public_url(settings.server),
        database=msgspec.structs.replace(settings.database, folder=draft.folder),
        upstreams={name: _with_paths(upstream, draft.folder) for name, upstream in settings.upstreams.items()},
        models={id_: _with_defaults(id_, model) for id_, model in settings.models.items()},
    )


def with_port(settings: Settings, port: int) -> Settings:
    """The settings with the port that was really taken; a `public_url` that followed the port follows it still."""
    server = settings.server
    if server.port == port:
        return settings
    url = server.public_url
    if url == _with_public_url(msgspec.structs.replace(server, public_url="")).public_url:
        url = ""
    server = _with_public_url(msgspec.structs.replace(server, port=port, public_url=url))
    return msgspec.structs.replace(settings, server=server)


def _with_public_url(server: Server) -> Server:
    host = _EVERYWHERE.get(server.host, server.host)
    url = server.public_url or f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
    return msgspec.structs.replace(server, public_url=_normalized(url))


def _normalized(url: str) -> str:
    """The URL as browsers write it: scheme and host in lower case, no default port, no slash at the end."""
    parts = urlsplit(url)
    netloc = parts.netloc.lower().removesuffix(_DEFAULT_PORTS[parts.scheme]).removesuffix(":")
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def _with_paths(upstream: UpstreamSettings, folder: Path) -> UpstreamSettings:
    if upstream.ca_file is None:
        return upstream
    return msgspec.structs.replace(upstream, ca_file=str(folder / Path(upstream.ca_file).expanduser()))


def _with_defaults(id_: str, model: ModelSettings) -> ModelSettings:
    return msgspec.structs.replace(
        model,
        upstream_model=model.upstream_model or id_,
        default_output_tokens=model.default_output_tokens or min(DEFAULT_OUTPUT_TOKENS, model.max_output_tokens),
    )
