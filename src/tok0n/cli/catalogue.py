"""`tok0n models`: manage the catalogue of models."""

import sys
from pathlib import Path

import click

from tok0n.bootstrap.resources import open_store
from tok0n.bootstrap.services import make_catalogue, open_catalogue
from tok0n.cli.common import FAILED, format_time, load_settings, print_json, print_table, standard_command
from tok0n.domain.catalogue import ModelState
from tok0n.domain.ledger import STANDARD
from tok0n.services.catalogue import ModelReport


@click.group()
def models() -> None:
    """List, verify, enable and disable models.

    Customers can use a model that is enabled and verified.
    """


@models.command("list")
@standard_command
async def list_models(config_path: Path | None, *, as_json: bool) -> None:
    """List the declared models and their status."""
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        catalogue = make_catalogue(settings, store)
        await catalogue.refresh()
        reports = catalogue.reports()
    streaming = settings.server.streaming
    if as_json:
        print_json([_report(report, streaming=streaming) for report in reports])
        return
    has_classes = any(report.token_class != STANDARD for report in reports)
    header: tuple[str, ...] = (
        "model",
        "upstream",
        *["class"] * has_classes,
        "listed",
        "enabled",
        "verified",
        "last check",
        "ms",
        "detail",
    )
    rows = [_row(report, has_class=has_classes) for report in reports]
    if streaming:
        header = (*header[:-1], "streams", "detail")
        rows = [(*row[:-1], *_stream_cells(report)) for row, report in zip(rows, reports, strict=True)]
    print_table(header, rows)


@models.command("verify")
@click.argument("model_ids", metavar="[ID]...", nargs=-1)
@standard_command
async def verify_models(model_ids: tuple[str, ...], config_path: Path | None, *, as_json: bool) -> None:
    """Send a tiny real request to each endpoint of each model and record the results.

    Without an ID, verifies every declared model.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store, open_catalogue(settings, store) as (catalogue, verifier):
        states = await verifier.verify_all(catalogue.declared_models(model_ids))
    streaming = settings.server.streaming
    if as_json:
        print_json([_state(state, streaming=streaming) for state in states])
    else:
        for state in states:
            result = f"passed in {state.latency_ms} ms" if state.passed else f"FAILED: {state.detail}"
            failures = _stream_failures(state) if streaming else ""
            click.echo(f"{state.id}: {result}{'; ' if failures else ''}{failures}")
    if not all(state.passed for state in states):
        sys.exit(FAILED)


@models.command("enable")
@click.argument("model_id", metavar="ID")
@standard_command
async def enable_model(model_id: str, config_path: Path | None, *, as_json: bool) -> None:
    """Enable a model, which customers can use once it is verified."""
    await _set_enabled(model_id, config_path, enabled=True, as_json=as_json)


@models.command("disable")
@click.argument("model_id", metavar="ID")
@standard_command
async def disable_model(model_id: str, config_path: Path | None, *, as_json: bool) -> None:
    """Disable a model and remove it from the list."""
    await _set_enabled(model_id, config_path, enabled=False, as_json=as_json)


async def _set_enabled(model_id: str, config_path: Path | None, *, enabled: bool, as_json: bool) -> None:
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        catalogue = make_catalogue(settings, store)
        report = await catalogue.set_enabled(model_id, enabled=enabled)
    if as_json:
        print_json(_report(report, streaming=settings.server.streaming))
    elif enabled and not report.verified:
        click.echo(f"{model_id} is enabled but not verified. To list it, run: tok0n models verify {model_id}")
    else:
        click.echo(f"{model_id} is {'enabled' if enabled else 'disabled'}.")


def _row(report: ModelReport, *, has_class: bool) -> tuple[object, ...]:
    state = report.state
    return (
        report.id,
        f"{report.upstream}/{report.upstream_model}",
        *[report.token_class] * has_class,
        report.listed,
        report.enabled,
        report.verified,
        format_time(state.checked_at_us),
        "" if state.latency_ms is None else state.latency_ms,
        state.detail,
    )


def _stream_cells(report: ModelReport) -> tuple[object, object]:
    """Return the endpoints on which the model streams, and why it failed its latest verification or stream."""
    return ", ".join(report.streaming_endpoints) or False, report.state.detail or _stream_failures(report.state)


def _report(report: ModelReport, *, streaming: bool) -> dict[str, object]:
    body: dict[str, object] = {
        "id": report.id,
        "upstream": report.upstream,
        "upstream_model": report.upstream_model,
        "token_class": report.token_class,
        "listed": report.listed,
        "enabled": report.enabled,
        "verified": report.verified,
    }
    if streaming:
        body |= {"streams": bool(report.streaming_endpoints), "streaming_endpoints": report.streaming_endpoints}
    if report.endpoints != ("chat",):
        body["endpoints"] = report.endpoints
        body["verified_endpoints"] = report.state.verified_endpoints if report.verified else ()
    return body | _state(report.state, streaming=streaming)


def _state(state: ModelState, *, streaming: bool) -> dict[str, object]:
    body: dict[str, object] = {
        "id": state.id,
        "passed": state.passed,
        "checks": state.checks,
        "detail": state.detail,
        "latency_ms": state.latency_ms,
        "checked_at": format_time(state.checked_at_us),
        "consecutive_failures": state.consecutive_failures,
    }
    if streaming:
        body["stream_failures"] = {name: stream.detail for name, stream in state.streams.items() if stream.detail}
    return body


def _stream_failures(state: ModelState) -> str:
    return "; ".join(f"no stream on {name}: {stream.detail}" for name, stream in state.streams.items() if stream.detail)
