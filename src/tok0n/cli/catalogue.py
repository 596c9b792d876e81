"""`tok0n models`: manage the catalogue of models."""

import sys
from pathlib import Path

import click

from tok0n.bootstrap.resources import open_store
from tok0n.bootstrap.services import declared_models, open_catalogue
from tok0n.cli.common import FAILED, format_time, load_settings, print_json, print_table, standard_command
from tok0n.domain.catalogue import ModelState
from tok0n.services.catalogue import Catalogue, ModelReport


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
        catalogue = Catalogue(declared_models(settings), store.models)
        await catalogue.refresh()
        reports = catalogue.reports()
    if as_json:
        print_json([_report(report) for report in reports])
        return
    print_table(
        ("model", "upstream", "listed", "enabled", "verified", "last check", "ms", "detail"),
        [
            (
                report.id,
                f"{report.upstream}/{report.upstream_model}",
                report.listed,
                report.enabled,
                report.verified,
                format_time(report.state.checked_at_us),
                "" if report.state.latency_ms is None else report.state.latency_ms,
                report.state.detail,
            )
            for report in reports
        ],
    )


@models.command("verify")
@click.argument("model_ids", metavar="[ID]...", nargs=-1)
@standard_command
async def verify_models(model_ids: tuple[str, ...], config_path: Path | None, *, as_json: bool) -> None:
    """Send a tiny real completion to each model and record the result.

    Without an ID, verifies every declared model.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store, open_catalogue(settings, store) as (catalogue, verifier):
        states = await verifier.verify_all(catalogue.declared_models(model_ids))
    if as_json:
        print_json([_state(state) for state in states])
    else:
        for state in states:
            result = f"passed in {state.latency_ms} ms" if state.passed else f"FAILED: {state.detail}"
            click.echo(f"{state.id}: {result}")
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
        catalogue = Catalogue(declared_models(settings), store.models)
        report = await catalogue.set_enabled(model_id, enabled=enabled)
    if as_json:
        print_json(_report(report))
    elif enabled and not report.verified:
        click.echo(f"{model_id} is enabled but not verified. To list it, run: tok0n models verify {model_id}")
    else:
        click.echo(f"{model_id} is {'enabled' if enabled else 'disabled'}.")


def _report(report: ModelReport) -> dict[str, object]:
    return {
        "id": report.id,
        "upstream": report.upstream,
        "upstream_model": report.upstream_model,
        "listed": report.listed,
        "enabled": report.enabled,
        "verified": report.verified,
    } | _state(report.state)


def _state(state: ModelState) -> dict[str, object]:
    return {
        "id": state.id,
        "passed": state.passed,
        "checks": state.checks,
        "detail": state.detail,
        "latency_ms": state.latency_ms,
        "checked_at": format_time(state.checked_at_us),
        "consecutive_failures": state.consecutive_failures,
    }
