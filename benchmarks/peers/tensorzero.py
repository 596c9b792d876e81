"""TensorZero's gateway: Rust, with and without its token budget, which it keeps in Redis.

PyPI has no gateway binary, only the Python client, whose native module holds the whole gateway: what
`patch_openai_client` starts is its HTTP server, with the OpenAI routes, on a port of its own choice. Python starts it
and then sleeps; every request is served by Rust threads. The gateway's own binary is built with the allocator mimalloc
and the client is not, so it is preloaded here (worth about a tenth). Neither variant checks keys (that needs its
PostgreSQL) or records calls (ClickHouse). 2026.6.0 is the last release: the project was archived in June 2026.
"""

import contextlib
import re
import socket
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

TENSORZERO_VERSION = "2026.6.0"
MIMALLOC_VERSION = "3.4.3"
REQUIREMENTS = (f"tensorzero=={TENSORZERO_VERSION}", f"cmeel-mimalloc=={MIMALLOC_VERSION}")
REDIS_PORT = 18093
REDIS_CORE = "1"

SERVE = """
import signal, sys
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=sys.argv[2] or None, async_setup=False
)
print(gateway.base_url, flush=True)
signal.pause()
"""
CONFIG = """
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true

[models.bench]
routing = ["upstream"]

[models.bench.providers.upstream]
type = "openai"
model_name = "bench-upstream"
api_base = "http://127.0.0.1:{upstream_port}/v1/"
api_key_location = "none"
"""
# Reserves an estimate before the call and corrects it after, as Tok0n does. One bucket, as Tok0n's bench has one user.
BUDGET = """
[[rate_limiting.rules]]
always = true
tokens_per_day = 1_000_000_000_000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorZero:
    """One process; on one core its runtime has one worker thread."""

    name: str
    what: str
    budget: bool

    def install(self, folder: Path) -> None:
        """From PyPI, in an environment of its own."""
        version = " ".join(REQUIREMENTS)
        if not is_installed(folder, version):
            install_from_pypi(folder, *REQUIREMENTS)
            note_installed(folder, version)

    @contextlib.contextmanager
    def start(self, folder: Path, *, upstream_port: int, core: str) -> Iterator[Target]:
        """With its Redis, if it keeps a budget."""
        folder.mkdir(parents=True, exist_ok=True)
        config, log = folder / "tensorzero.toml", folder / "tensorzero.log"
        config.write_text(CONFIG.format(upstream_port=upstream_port) + (BUDGET if self.budget else ""))
        with contextlib.ExitStack() as stack:
            redis_url = stack.enter_context(_redis(folder)) if self.budget else ""
            home = installed(self.name)
            mimalloc = next(home.glob("lib/python3*/site-packages/cmeel.prefix/lib/libmimalloc.so"))
            environment = {"RUST_LOG": "error", "LD_PRELOAD": str(mimalloc)}
            command: list[str | Path] = [home / "bin" / "python", "-I", "-c", SERVE, config, redis_url]
            process = stack.enter_context(running(command, core=core, log=log, environment=environment))
            port = wait_for(lambda: _port(log), process, log)
            path = "/openai/v1/chat/completions"
            target = Target(port, path, "tensorzero::model_name::bench", {}, (process.pid,))
            wait_for(lambda: first_completion(target), process, log)
            yield target


def _port(log: Path) -> int | None:
    said = re.search(r"^http://127\.0\.0\.1:(\d+)/openai/v1\n", log.read_text(), re.MULTILINE)
    return int(said[1]) if said else None


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A Redis that keeps nothing on disk, away from the gateway's core."""
    log = folder / "redis.log"
    command = ["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(command, core=REDIS_CORE, log=log, environment={}) as process:
        wait_for(_redis_answers, process, log)
        yield f"redis://127.0.0.1:{REDIS_PORT}/0"


def _redis_answers() -> bool | None:
    try:
        with socket.create_connection(("127.0.0.1", REDIS_PORT), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG" or None
    except OSError:
        return None


TENSORZERO = TensorZero(
    name="tensorzero",
    what=f"TensorZero {TENSORZERO_VERSION}: forwards and translates; no auth, no limits, no ledger",
    budget=False,
)
TENSORZERO_BUDGET = TensorZero(
    name="tensorzero-budget",
    what=f"TensorZero {TENSORZERO_VERSION} with its token budget in Redis; no auth, no ledger",
    budget=True,
)
