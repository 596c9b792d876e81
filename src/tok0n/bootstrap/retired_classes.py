"""Find token classes that the settings no longer declare but accounts still own, to warn the operator."""

import contextlib
import sqlite3
from pathlib import Path

import structlog

from tok0n.adapters.sql.schema import HEAD
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.services import token_classes_of
from tok0n.domain.errors import Tok0nError
from tok0n.domain.token_classes import RetiredClass
from tok0n.settings import Settings, SettingsProblem

log = structlog.get_logger()


async def log_retired_classes(settings: Settings, store: Store | None = None) -> None:
    """Log a warning for each retired class. Opens the database if there is no `store`."""
    classes = await _find(settings) if store is None else await _read(settings, store)
    for retired in classes:
        log.warning("token_class_retired", token_class=retired.token_class, message=retired.warning)


async def retired_class_problems(settings: Settings) -> list[SettingsProblem]:
    """Return a warning for each retired class."""
    return [
        SettingsProblem(where=f"token_classes.{retired.token_class}", message=retired.warning, severity="warning")
        for retired in await _find(settings)
    ]


async def _find(settings: Settings) -> list[RetiredClass]:
    """Return the retired classes, or none if the database is unavailable or has another schema. Never migrates it."""
    if not settings.database.is_postgres and not _has_current_schema(settings.database.sqlite_path):
        return []
    with contextlib.suppress(Tok0nError):
        async with open_store(settings) as store:
            return await _read(settings, store)
    return []


async def _read(settings: Settings, store: Store) -> list[RetiredClass]:
    return await store.corrections.retired_classes(token_classes_of(settings).ids)


def _has_current_schema(path: Path) -> bool:
    """Whether an SQLite file has the schema that this version needs, so that opening it doesn't migrate it."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    except sqlite3.Error:
        return False
