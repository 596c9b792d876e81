"""A server imports only the packages that every server needs."""

import subprocess
import sys

import pytest

from tok0n.optional_imports import hidden

UNNEEDED = ("rich", "alembic", "mako", "stripe", "webauthn", "asyncpg", "redis", "httpx")


def test_a_server_imports_no_package_that_only_some_servers_need_even_when_it_creates_its_database() -> None:
    create = "migrate.upgrade(sqlalchemy.create_engine('sqlite://').connect())"
    script = (
        "import sqlalchemy, sys, tok0n.bootstrap.serving; from tok0n.adapters.sql import migrate;"
        f" {create}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(UNNEEDED)


def test_a_hidden_module_can_be_imported_afterwards() -> None:
    sys.modules.pop("this", None)
    with hidden("this"), pytest.raises(ImportError):
        import this  # noqa: F401, PLC0415
    assert "this" not in sys.modules
    with hidden("sys"):
        import sys as same  # noqa: PLC0415
    assert same is sys
