"""A wheel holds everything that the program reads."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tok0n.web.public.guide import GUIDE

ROOT = Path(__file__).parent.parent


def test_a_wheel_holds_the_pages_the_docs_and_htmx(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for page in GUIDE:
        assert f"tok0n/docs/{page.file}" in names
    source = ROOT / "src"
    sql = ("adapters/sql", "adapters/sql/sqlite", "adapters/sql/postgres", "adapters/sql/migrations")
    for folder in ("web/templates", "web/assets", *sql, "adapters/redis"):
        for file in (source / "tok0n" / folder).iterdir():
            if file.is_file() and not file.name.startswith("."):
                assert str(file.relative_to(source)) in names
    assert "tok0n/web/assets/htmx.min.js" in names
