"""What few processes need is not imported by the others."""

import subprocess
import sys

import pytest

from tok0n.lazily import without

UNNEEDED = ("rich", "alembic", "stripe", "webauthn", "asyncpg", "redis", "httpx")


def test_a_server_imports_nothing_that_only_others_need() -> None:
    script = "import sys, tok0n.bootstrap.serving; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(UNNEEDED)


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ImportError):
        import this  # noqa: F401, PLC0415
    assert "this" not in sys.modules
    with without("sys"):
        import sys as same  # noqa: PLC0415
    assert same is sys
