"""What one value alone cannot tell: whether the settings fit together, and fit this machine."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tok0n.domain import catalogue
from tok0n.settings.faults import Fault, SettingsInvalid, nearest
from tok0n.settings.schema import Model, Secret, Settings, Upstream

DEFAULT_OUTPUT_TOKENS = 4_096
MODEL_ID_CHARACTERS_MAX = 128

_MODEL_ID = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def cross_check(settings: Settings, faults: list[Fault]) -> Settings:
    """Compare the settings with one another, and fill in the defaults that follow from others."""
    server = settings.server
    if not server.public_url:
        host = f"[{server.host}]" if ":" in server.host else server.host
        server = msgspec.structs.replace(server, public_url=f"http://{host}:{server.port}")
    elif (reason := _why_no_url(server.public_url)) is not None:
        faults.append(Fault(where="server.public_url", message=reason))
    _check_engines(settings, faults)
    for name, upstream in settings.upstreams.items():
        _check_upstream(f"upstreams.{name}", upstream, faults)
    for id_, model in settings.models.items():
        _check_model(id_, model, settings, faults)
    models = {id_: _with_defaults(id_, model) for id_, model in settings.models.items()}
    return msgspec.structs.replace(settings, server=server, models=models)


def check(settings: Settings) -> list[Fault]:
    """Look at this machine too: secrets, files and folders. For `tok0n config check` and `tok0n serve`."""
    faults: list[Fault] = []
    for upstream in settings.upstreams.values():
        _check_secret(upstream.api_key, faults)
        if upstream.ca_file is not None and not Path(upstream.ca_file).is_file():
            faults.append(Fault(where="upstreams", message=f"the ca_file {upstream.ca_file} is not there."))
    if settings.payments is not None:
        _check_secret(settings.payments.secret_key, faults)
        _check_secret(settings.payments.webhook_secret, faults)
        faults.append(
            Fault(where="payments", message="payments are not built yet; nothing is sold.", severity="warning")
        )
    folder = settings.database.sqlite_path.parent
    if folder.exists() and not os.access(folder, os.W_OK):
        faults.append(Fault(where="database.url", message=f"the folder {folder.resolve()} cannot be written to."))
    if not settings.models:
        faults.append(
            Fault(where="models", message="no model is declared, so nothing can be called.", severity="warning")
        )
    return faults


def model_of(model_id: str, settings: Settings) -> catalogue.Model:
    """A declared model as the domain knows it."""
    model = settings.models[model_id]
    assert model.default_output_tokens is not None, "filled in by cross_check"
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
        owned_by=model.owned_by,
    )


def _check_engines(settings: Settings, faults: list[Fault]) -> None:
    url = settings.database.url
    if url.startswith(("postgresql://", "postgres://")):
        faults.append(
            Fault(where="database.url", message="PostgreSQL is not supported in this version: use sqlite:///tok0n.db.")
        )
    elif not url.startswith("sqlite:///") or not url.removeprefix("sqlite:///").strip("/"):
        faults.append(Fault(where="database.url", message="write it as sqlite:///tok0n.db."))
    backend = settings.limits.backend
    if backend.startswith(("redis://", "rediss://")):
        faults.append(Fault(where="limits.backend", message="Redis is not supported in this version: use memory://."))
    elif backend != "memory://":
        faults.append(Fault(where="limits.backend", message="write it as memory://."))


def _check_upstream(where: str, upstream: Upstream, faults: list[Fault]) -> None:
    if (reason := _why_no_url(upstream.base_url)) is not None:
        faults.append(Fault(where=f"{where}.base_url", message=reason))
    if upstream.proxy_url is not None and urlsplit(upstream.proxy_url).scheme != "http":
        faults.append(Fault(where=f"{where}.proxy_url", message="write it as http://HOST:PORT."))
    for name, value in upstream.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            faults.append(
                Fault(where=f"{where}.headers", message=f"{name!r} or its value has characters no header may have.")
            )


def _check_model(id_: str, model: Model, settings: Settings, faults: list[Fault]) -> None:
    where = f'models."{id_}"'
    if len(id_) > MODEL_ID_CHARACTERS_MAX or not _MODEL_ID.fullmatch(id_):
        faults.append(
            Fault(
                where=where,
                message=f"a model's id has up to {MODEL_ID_CHARACTERS_MAX} printable ASCII characters without spaces.",
            )
        )
    if model.upstream not in settings.upstreams:
        message = f"no upstream {model.upstream!r} is declared. {nearest(model.upstream, settings.upstreams)}"
        faults.append(Fault(where=f"{where}.upstream", message=message))
    if model.default_output_tokens is not None and model.default_output_tokens > model.max_output_tokens:
        faults.append(Fault(where=f"{where}.default_output_tokens", message="it is greater than max_output_tokens."))
    window = model.context_window_tokens
    if window is not None and model.max_output_tokens > window:
        faults.append(Fault(where=f"{where}.max_output_tokens", message="it is greater than context_window_tokens."))


def _with_defaults(id_: str, model: Model) -> Model:
    return msgspec.structs.replace(
        model,
        upstream_model=model.upstream_model or id_,
        default_output_tokens=model.default_output_tokens or min(DEFAULT_OUTPUT_TOKENS, model.max_output_tokens),
    )


def _check_secret(secret: Secret | None, faults: list[Fault]) -> None:
    if secret is None:
        return
    try:
        secret.resolve()
    except SettingsInvalid as error:
        faults.extend(error.faults)


def _why_no_url(text: str) -> str | None:
    """What is wrong with an http(s) address, or None."""
    shape = "write it as https://HOST or http://HOST:PORT, with a path if there is one."
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return shape
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        return shape
    if url.username is not None or url.query or url.fragment:
        return "it must hold no user, password, query or fragment."
    return None if text.isascii() and text.isprintable() and " " not in text else shape
