"""The servers of a benchmark, each pinned to a core, started and ended one inside the other.

Tok0n's limits are set so high that they never refuse: what is measured is the work, not the refusing. All else is as
its default, so every request is authenticated, admitted, reserved and settled durably, and logged.
"""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import large
from bench import Bench, Result
from payloads import COMPLETION, MODEL, UPSTREAM_MODEL
from processes import GATEWAY_CORE, LOAD_CORE, running

UPSTREAM_PORT = 18080
PROXY_PORT = 18081
GATEWAY_PORT = 18082
POSTGRES_PORT = 18083
REDIS_PORT = 18084
PACED_PORT = 18085
SECOND_GATEWAY_PORT = 18086

CHAT = "/v1/chat/completions"
EMAIL = "bench@example.com"
READY_SECONDS_MAX = 60.0
SETTLED_SECONDS_MAX = 30.0

NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
worker_rlimit_nofile 32768;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 8m; client_body_buffer_size 64k;
  client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
  {http}
}}
"""
UPSTREAM = """
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{completion}'; }} }}
"""
PROXY = """
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; {more} }} }}
"""
SETTINGS = """
[server]
port = {port}
{server}
[database]
url = "{database}"
[limits]
backend = "{backend}"
requests_per_minute_per_key = 10000000
concurrent_requests_per_user = 10000000
upstream_requests_per_minute = 10000000
[upstreams.bench]
base_url = "http://127.0.0.1:{upstream}/v1"
[models.{model}]
upstream = "bench"
upstream_model = "{upstream_model}"
max_output_tokens = 1000
[logs]
format = "json"
"""
"""`concurrent_requests_per_user` is the old name, which every commit that `make bench-ab` compares accepts."""


class Server(NamedTuple):
    """Something that answers chat requests, and the process trees whose CPU seconds count, by part."""

    name: str
    port: int
    parts: dict[str, tuple[int, ...]]
    path: str = CHAT
    model: str = MODEL
    headers: Mapping[str, str] = MappingProxyType({})
    folder: Path | None = None
    """Where the settings of a Tok0n are."""
    keys_path: Path | None = None
    """A file of API keys, one per line: each request has a random one of them instead of that in `headers`."""

    @property
    def pid(self) -> int:
        """The process under test."""
        return next(iter(self.parts.values()))[0]


def upstream(folder: Path) -> contextlib.AbstractContextManager[Server]:
    """An nginx that answers every completion at once."""
    http = UPSTREAM.format(port=UPSTREAM_PORT, completion=COMPLETION)
    return _nginx(folder, "upstream", http, port=UPSTREAM_PORT, core=LOAD_CORE)


def proxy(
    folder: Path, *, upstream_port: int = UPSTREAM_PORT, buffering: bool = True
) -> contextlib.AbstractContextManager[Server]:
    """The baseline: nginx's proxy_pass, which does nothing but forward."""
    more = "" if buffering else "proxy_buffering off;"
    http = PROXY.format(port=PROXY_PORT, upstream=upstream_port, more=more)
    return _nginx(folder, "nginx", http, port=PROXY_PORT, core=GATEWAY_CORE)


@contextlib.contextmanager
def _nginx(folder: Path, name: str, http: str, *, port: int, core: str) -> Iterator[Server]:
    conf = folder / f"{name}.conf"
    conf.write_text(NGINX.format(folder=folder, name=name, http=http))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with running([nginx, "-c", conf, "-p", folder], core=core, stderr=subprocess.DEVNULL) as process:
        until(["curl", "-s", f"http://127.0.0.1:{port}/", "-o", "/dev/null"])
        yield Server(name, port, {"nginx": (process.pid,)})


@contextlib.contextmanager
def paced_upstream(*, seconds: float) -> Iterator[Server]:
    """Our own upstream, which answers each completion so long after it came: see paced_upstream.py."""
    script = Path(__file__).parent / "paced_upstream.py"
    with running([sys.executable, script, str(PACED_PORT), str(seconds)], core=LOAD_CORE) as process:
        until(["curl", "-s", f"http://127.0.0.1:{PACED_PORT}/", "-o", "/dev/null"])
        yield Server("upstream", PACED_PORT, {"upstream": (process.pid,)})


@contextlib.contextmanager
def postgres() -> Iterator[tuple[str, int]]:
    """A PostgreSQL as its package sets it up, durable; gives the URL of an empty database and the process id."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="tok0n-bench-pg-") as name:
        data = Path(name) / "data"
        if user is not None:
            os.chown(name, pwd.getpwnam(user).pw_uid, -1)
        options = ["-D", str(data), "-U", "tok0n", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run([binaries / "initdb", *options], check=True, capture_output=True, user=user, cwd=name)
        server: list[str | Path] = [
            binaries / "postgres",
            "-D",
            data,
            "-p",
            str(POSTGRES_PORT),
            "-k",
            "",
            "-h",
            "127.0.0.1",
        ]
        with running(server, core=LOAD_CORE, user=user, cwd=name, stderr=subprocess.DEVNULL) as process:
            until([str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(POSTGRES_PORT)])
            create: list[str | Path] = [
                binaries / "createdb",
                "-h",
                "127.0.0.1",
                "-p",
                str(POSTGRES_PORT),
                "-U",
                "tok0n",
                "bench",
            ]
            subprocess.run(create, check=True)
            yield f"postgresql://tok0n@127.0.0.1:{POSTGRES_PORT}/bench", process.pid


@contextlib.contextmanager
def redis() -> Iterator[tuple[str, int]]:
    """A Redis that keeps nothing on disk; gives its URL and process id."""
    command = ["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(command, core=LOAD_CORE, stdout=subprocess.DEVNULL) as process:
        until(["redis-cli", "-p", str(REDIS_PORT), "ping"])
        yield f"redis://127.0.0.1:{REDIS_PORT}/0", process.pid


@contextlib.contextmanager
def embedded(folder: Path, *, upstream_port: int = UPSTREAM_PORT, keys: int = 0, server: str = "") -> Iterator[Server]:
    """Tok0n on its embedded default: SQLite with synchronous=FULL, limits in memory. `server` adds settings."""
    prepared = prepare(folder, upstream_port=upstream_port, keys=keys, server=server)
    with serving(prepared) as pid:
        yield prepared._replace(parts={"gateway": (pid,)})


@contextlib.contextmanager
def scaled(folder: Path, *, keys: int = 0) -> Iterator[Server]:
    """Tok0n as one of many would run: one process on PostgreSQL and Redis."""
    with postgres() as (database, postgres_pid), redis() as (backend, redis_pid):
        prepared = prepare(folder, database=database, backend=backend, port=SECOND_GATEWAY_PORT, keys=keys)
        with serving(prepared) as pid:
            yield prepared._replace(
                name="Tok0n PostgreSQL+Redis",
                parts={"gateway": (pid,), "postgres": (postgres_pid,), "redis": (redis_pid,)},
            )


def prepare(
    folder: Path,
    *,
    database: str = "sqlite:///tok0n.db",
    backend: str = "memory://",
    port: int = GATEWAY_PORT,
    upstream_port: int = UPSTREAM_PORT,
    python: str = sys.executable,
    keys: int = 0,
    server: str = "",
) -> Server:
    """Settings, a database at head, and a funded account with a key; nothing runs yet. `python` has Tok0n installed.

    With `keys`, the database has so many other accounts with a key each, and the server's `keys_path` lists the keys.
    `server` adds lines to the section of that name.
    """
    folder.mkdir(exist_ok=True)
    names = {
        "database": database,
        "backend": backend,
        "model": MODEL,
        "upstream_model": UPSTREAM_MODEL,
        "server": server,
    }
    (folder / "tok0n.toml").write_text(SETTINGS.format(port=port, upstream=upstream_port, **names))
    tok0n(folder, "migrate", python=python)
    tok0n(folder, "accounts", "create", EMAIL, "--tokens", str(2**50), python=python)
    api_key = json.loads(tok0n(folder, "keys", "create", EMAIL, "--json", python=python))["api_key"]
    prepared = Server("Tok0n SQLite", port, {}, headers={"Authorization": f"Bearer {api_key}"}, folder=folder)
    if not keys:
        return prepared
    url = f"sqlite:{folder / 'tok0n.db'}" if database.startswith("sqlite:") else database
    large.fill(url, large.Size(accounts=keys))
    return prepared._replace(keys_path=large.write_keys(folder / "keys.txt", range(keys)))


def peers(bench: Bench, stack: contextlib.ExitStack, result: Result, *, upstream_port: int) -> Iterator[Server]:
    """Start the peers, each with what it needs. One that can't be started is noted, and the others are measured."""
    from peers import PEERS  # noqa: PLC0415  only where they are wanted
    from peers.interface import installed  # noqa: PLC0415

    for peer in PEERS:
        bench.say(f"starting {peer.name}")
        try:
            peer.install(installed(peer.name))
            start = peer.start(bench.folder / peer.name, upstream_port=upstream_port, core=GATEWAY_CORE)
            target = stack.enter_context(start)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the others are measured all the same
            result.add(f"starting {peer.name}", f"could not be started: {str(error)[-300:]}")
            continue
        finally:
            result.figures.setdefault("peers", {})[peer.name] = peer.what
        yield Server(
            peer.name, target.port, {"gateway": target.pids}, target.path, target.model, headers=target.headers
        )


def serve_command(python: str = sys.executable) -> list[str]:
    """How a gateway is started."""
    return [python, "-m", "tok0n", "serve", "--json"]


@contextlib.contextmanager
def serving(prepared: Server, *, python: str = sys.executable) -> Iterator[int]:
    """The gateway, once it offers its model; gives its process id."""
    assert prepared.folder is not None
    command = serve_command(python)
    log = prepared.folder / "server.log"
    with (
        log.open("ab") as stderr,
        running(command, core=GATEWAY_CORE, cwd=prepared.folder, stdout=subprocess.DEVNULL, stderr=stderr) as process,
    ):
        until(["curl", "-sf", f"http://127.0.0.1:{prepared.port}/v1/models/{MODEL}", "-o", "/dev/null"])
        yield process.pid


def audited(server: Server) -> dict[str, int | bool]:
    """Tok0n's own audit, once nothing is in flight any more; `pending` is what is reserved even so."""
    assert server.folder is not None
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    while True:
        pending = json.loads(tok0n(server.folder, "accounts", "show", EMAIL, "--json"))["pending"]
        if not pending or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    audit = json.loads(tok0n(server.folder, "ledger", "audit", "--json", may_fail=True))
    return {**audit, "pending": pending, "clean": bool(audit["ok"]) and not pending}


def tok0n(folder: Path, *arguments: str, may_fail: bool = False, python: str = sys.executable) -> str:
    """What a command prints."""
    command = [python, "-m", "tok0n", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        sys.exit(f"tok0n {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def until(command: list[str]) -> None:
    """Repeat a command until it succeeds."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while subprocess.run(command, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            sys.exit(f"{' '.join(command)} did not succeed within {READY_SECONDS_MAX:g} seconds")
        time.sleep(0.05)
