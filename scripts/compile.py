"""Make a copy of the package whose hot modules are compiled by mypyc: scripts/compile.py FOLDER.

It serves a request with a fifth less CPU (docs/performance.md). The sources are the same, and go with it: where a
compiled module does not load, Python takes the source beside it. Needs a C compiler and Python's headers. Never in
src/, where a compiled module would hide the changes of its source.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOT = (
    "domain/bound.py",
    "domain/chat_fields.py",
    "domain/chat_messages.py",
    "domain/chat_request.py",
    "domain/completion.py",
    "domain/ids.py",
    "domain/json_text.py",
    "domain/rate_limit.py",
    "domain/usage.py",
    "services/authenticate.py",
    "services/complete_chat.py",
    "services/in_flight.py",
    "services/reserving.py",
    "adapters/batcher.py",
    "adapters/clock.py",
    "adapters/memory/limiter.py",
    "adapters/sql/sqlite_ledger.py",
    "adapters/upstream/connection.py",
    "adapters/upstream/http.py",
    "web/asgi.py",
    "web/http_protocol.py",
    "web/openai/chat.py",
    "web/request_log.py",
)
"""What runs for each request, but for what is C already."""

SETUP = """
from mypyc.build import mypycify
from setuptools import setup
setup(name="tok0n", packages=[], ext_modules=mypycify({arguments}, opt_level="3", debug_level="0"))
"""


def compile_into(folder: Path) -> list[Path]:
    """Gives the compiled modules. Raises `SystemExit` with the compiler's words when it cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / "tok0n"
    shutil.rmtree(package, ignore_errors=True)
    for old in folder.glob("*.so"):
        old.unlink()
    shutil.copytree(ROOT / "src" / "tok0n", package, ignore=shutil.ignore_patterns("__pycache__"))
    arguments = ["--config-file", str(ROOT / "scripts" / "mypyc.ini"), *(f"tok0n/{file}" for file in HOT)]
    work = folder / "build"
    done = subprocess.run(
        [sys.executable, "-c", SETUP.format(arguments=arguments), "build_ext", "--inplace", "--build-temp", work],
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(work, ignore_errors=True)
    if done.returncode:
        sys.exit(f"the hot modules could not be compiled:\n{done.stdout}\n{done.stderr}")
    return [*folder.glob("*.so"), *package.rglob("*.so")]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"compiled {len(compile_into(Path(sys.argv[1]).resolve())) - 1} modules")
