"""The servers of a benchmark, each pinned to a core, started and ended one inside the other."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GATEWAY_CORE = "0"
LOAD_CORE = "1"
UPSTREAM_PORT = 18080
NGINX_PORT = 18081
GATEWAY_PORT = 18082
POSTGRES_PORT = 18083
REDIS_PORT = 18084

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": "bench-upstream",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello. " * 60}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 12, "total_tokens": 212},
    }
)
BODY = json.dumps(
    {
        "model": "bench",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. " * 4},
            {"role": "user", "content": "Tell me something about the history of accounting. " * 15},
        ],
        "max_completion_tokens": 200,
        "temperature": 0.7,
    }
)
NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 4096; }}
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
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
"""
SETTINGS = """
[server]
port = {port}
[database]
url = "{database}"
[limits]
backend = "{backend}"
requests_per_minute_per_key = 10000000
concurrent_requests_per_user = 10000000
upstream_requests_per_minute = 10000000
[upstreams.bench]
base_url = "http://127.0.0.1:{upstream}/v1"
[models.bench]
upstream = "bench"
upstream_model = "bench-upstream"
max_output_tokens = 1000
[logs]
format = "json"
"""


def upstream(folder: Path) -> contextlib.AbstractContextManager[None]:
    """An nginx that answers every completion at once."""
    return _nginx(folder, "upstream", UPSTREAM.format(port=UPSTREAM_PORT, completion=COMPLETION), LOAD_CORE)


def proxy(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The baseline: nginx's proxy_pass, which does nothing but forward."""
    return _nginx(folder, "proxy", PROXY.format(port=NGINX_PORT, upstream=UPSTREAM_PORT), GATEWAY_CORE)


@contextlib.contextmanager
def _nginx(folder: Path, name: str, http: str, core: str) -> Iterator[None]:
    conf = folder / f"{name}.conf"
    conf.write_text(NGINX.format(folder=folder, name=name, http=http))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen(["taskset", "-c", core, nginx, "-c", str(conf), "-p", str(folder)])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


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
        server = [binaries / "postgres", "-D", data, "-p", str(POSTGRES_PORT), "-k", "", "-h", "127.0.0.1"]
        process = subprocess.Popen(
            ["taskset", "-c", LOAD_CORE, *map(str, server)], user=user, cwd=name, stderr=subprocess.DEVNULL
        )
        try:
            _until([str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(POSTGRES_PORT)])
            psql = [binaries / "createdb", "-h", "127.0.0.1", "-p", str(POSTGRES_PORT), "-U", "tok0n", "bench"]
            subprocess.run(psql, check=True)
            yield f"postgresql://tok0n@127.0.0.1:{POSTGRES_PORT}/bench", process.pid
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def redis() -> Iterator[tuple[str, int]]:
    """A Redis that keeps nothing on disk; gives its URL and process id."""
    command = ["taskset", "-c", LOAD_CORE, "redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1"]
    process = subprocess.Popen([*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        _until(["redis-cli", "-p", str(REDIS_PORT), "ping"])
        yield f"redis://127.0.0.1:{REDIS_PORT}/0", process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def gateway(folder: Path, *, database: str, backend: str, workers: int = 1) -> Iterator[tuple[str, int]]:
    """Tok0n with a funded account; gives its API key and process id. One worker has a core, two have both."""
    folder.mkdir(exist_ok=True)
    (folder / "tok0n.toml").write_text(
        SETTINGS.format(port=GATEWAY_PORT, upstream=UPSTREAM_PORT, database=database, backend=backend)
    )
    tok0n(folder, "migrate")
    email = f"bench{workers}@example.com"
    tok0n(folder, "accounts", "create", email, "--tokens", str(2**50))
    api_key = json.loads(tok0n(folder, "keys", "create", email, "--json"))["api_key"]
    cores = GATEWAY_CORE if workers == 1 else f"{GATEWAY_CORE},{LOAD_CORE}"
    command = ["taskset", "-c", cores, sys.executable, "-m", "tok0n", "serve", "--workers", str(workers), "--json"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        _until(["curl", "-sf", f"http://127.0.0.1:{GATEWAY_PORT}/v1/models/bench", "-o", "/dev/null"])
        yield api_key, process.pid
    finally:
        process.terminate()
        process.wait()


def tok0n(folder: Path, *arguments: str) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "tok0n", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"tok0n {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def cpu_seconds(pid: int) -> float:
    """What a process and all its living children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_mib(pid: int) -> float:
    """The memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _until(command: list[str]) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(command, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            sys.exit(f"{command[0]} did not succeed within a minute")
        time.sleep(0.05)
