"""What the harness needs of a peer, and what peers share: to install, to run on a core, to wait. Measures nothing."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 10
POLL_SECONDS = 0.05

# The same uv, certificates and Python as Tok0n's own environment: a peer in Python runs on what Tok0n runs on.
INSTALL = """
set -euo pipefail
. scripts/lib.sh
uv=$(find_uv "$1")
"$uv" venv -q --clear --python "$1" "$2"
"$uv" pip install -q --compile-bytecode --python "$2" "${@:3}"
"""

Found = TypeVar("Found")


class Target(NamedTuple):
    """Where a running gateway takes chat completions, and what it must be told in each."""

    port: int
    """On 127.0.0.1."""
    path: str
    model: str
    """What the request body's "model" must be."""
    headers: dict[str, str]
    """Besides Content-Type."""
    pids: tuple[int, ...]
    """The gateway's own processes, not its database's."""


class Peer(Protocol):
    """A gateway of a pinned version that can be installed and started."""

    @property
    def name(self) -> str:
        """The contender's name, and that of its folder."""

    @property
    def what(self) -> str:
        """The version, what it does, and what it does not do in this run."""

    def install(self, folder: Path) -> None:
        """Install into `folder`, which is `installed(name)`, unless this version is there already."""

    def start(self, folder: Path, *, upstream_port: int, core: str) -> contextlib.AbstractContextManager[Target]:
        """Run on `core`, with configuration and log in `folder`; ready once a completion has come through."""


def installed(name: str) -> Path:
    """The folder that a peer is installed into and started from."""
    return ROOT / "benchmarks" / ".peers" / name


def is_installed(folder: Path, version: str) -> bool:
    """Whether an installation of this version was finished."""
    note = folder / "installed-version"
    return note.exists() and note.read_text() == version


def note_installed(folder: Path, version: str) -> None:
    """The last step of an installation, so that one that broke off is done again."""
    (folder / "installed-version").write_text(version)


def install_from_pypi(folder: Path, *requirements: str) -> None:
    """Make a fresh virtual environment with compiled bytecode, as a container image would have it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["bash", "-c", INSTALL, "install", sys.executable, str(folder), *requirements], cwd=ROOT, check=True)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, core: str, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on a core, with none of this shell's variables, in the folder of its log; end it by its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **environment}
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", core, *map(str, command)], cwd=log.parent, env=variables, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(find: Callable[[], Found | None], process: subprocess.Popen[bytes], log: Path) -> Found:
    """What `find` returns as soon as that is something; the server's log, if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while (found := find()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{log} has no good news:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(POLL_SECONDS)
    return found


def first_completion(target: Target) -> bytes | None:
    """A completion that came through the gateway, or nothing while it cannot give one."""
    body = {"model": target.model, "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 200}
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=START_SECONDS_MAX)
    try:
        connection.request("POST", target.path, json.dumps(body), {"Content-Type": "application/json"} | target.headers)
        response = connection.getresponse()
        answer = response.read()
    except OSError:
        return None
    finally:
        connection.close()
    return answer if response.status == http.HTTPStatus.OK and b'"choices"' in answer else None
