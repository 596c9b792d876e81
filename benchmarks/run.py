"""The gateway beside nginx's bare proxy_pass, in one run: requests per second, and their ratio.

    make bench          about three minutes; benchmarks/results/latest.json holds the figures

Both forward to the same upstream, an nginx that answers at once. The server under test has one core for itself, the
upstream and wrk share the other. Rounds are interleaved, so that a noisy hour hits both; medians are compared. Every
request of ours is authenticated, admitted, reserved and settled durably (SQLite, synchronous=FULL), and the ledger is
audited afterwards.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

GATEWAY_CORE = "0"
LOAD_CORE = "1"
UPSTREAM_PORT = 18080
NGINX_PORT = 18081
GATEWAY_PORT = 18082

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
[limits]
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


def main() -> None:
    """Run, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as name:
        folder = Path(name)
        (folder / "body.lua").write_text(
            f"wrk.method='POST'\nwrk.body=[==[{BODY}]==]\nwrk.headers['Content-Type']='application/json'\n"
        )
        with _nginx(folder, "upstream", UPSTREAM.format(port=UPSTREAM_PORT, completion=COMPLETION), LOAD_CORE):
            proxy = PROXY.format(port=NGINX_PORT, upstream=UPSTREAM_PORT)
            with _nginx(folder, "proxy", proxy, GATEWAY_CORE), _gateway(folder) as (api_key, pid):
                results = _measure(folder, api_key, pid, options)
        results["audit"] = json.loads(_tok0n(folder, "ledger", "audit", "--json"))
    _report(results)


def _measure(folder: Path, api_key: str, pid: int, options: argparse.Namespace) -> dict[str, object]:
    nginx, gateway, errors = [], [], 0
    cpu_seconds, requests = 0.0, 0
    _wrk(folder, GATEWAY_PORT, api_key, seconds=2, connections=options.connections)
    for _ in range(options.rounds):
        nginx.append(_wrk(folder, NGINX_PORT, api_key, options.seconds, options.connections)["rps"])
        before = _cpu_seconds(pid)
        round_ = _wrk(folder, GATEWAY_PORT, api_key, options.seconds, options.connections)
        cpu_seconds += _cpu_seconds(pid) - before
        requests += int(round_["requests"])
        errors += int(round_["errors"])
        gateway.append(round_["rps"])
    single = _wrk(folder, GATEWAY_PORT, api_key, seconds=3, connections=1)
    single_nginx = _wrk(folder, NGINX_PORT, api_key, seconds=3, connections=1)
    return {
        "connections": options.connections,
        "nginx_rps": nginx,
        "gateway_rps": gateway,
        "ratio": statistics.median(gateway) / statistics.median(nginx),
        "errors": errors,
        "cpu_seconds_per_1000_requests": 1000 * cpu_seconds / requests,
        "p50_ms_one_connection": {"gateway": single["p50_ms"], "nginx": single_nginx["p50_ms"]},
        "resident_mib": _resident_mib(pid),
    }


def _report(results: dict[str, object]) -> None:
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))
    audit = results["audit"]
    assert isinstance(audit, dict)
    if results["errors"] or not audit["ok"]:
        sys.exit("FAILED: there were errors, or the audit found differences")


def _wrk(folder: Path, port: int, api_key: str, seconds: int, connections: int) -> dict[str, float]:
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += ["-s", str(folder / "body.lua"), "-H", f"Authorization: Bearer {api_key}"]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v1/chat/completions"], capture_output=True, text=True, check=True
    ).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    rps = re.search(r"Requests/sec:\s+([\d.]+)", out)
    total = re.search(r"(\d+) requests in", out)
    assert p50, out
    assert rps, out
    assert total, out
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p50[2]]
    errors = int(bad[1]) if bad else 0
    errors += sum(map(int, socket_errors.groups())) if socket_errors else 0
    return {"rps": float(rps[1]), "requests": int(total[1]), "errors": errors, "p50_ms": float(p50[1]) * scale}


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
def _gateway(folder: Path) -> Iterator[tuple[str, int]]:
    (folder / "tok0n.toml").write_text(SETTINGS.format(port=GATEWAY_PORT, upstream=UPSTREAM_PORT))
    _tok0n(folder, "accounts", "create", "bench@example.com", "--tokens", str(2**52))
    api_key = json.loads(_tok0n(folder, "keys", "create", "bench@example.com", "--json"))["api_key"]
    _tok0n(folder, "models", "verify")
    command = ["taskset", "-c", GATEWAY_CORE, sys.executable, "-m", "tok0n", "serve", "--json"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield api_key, process.pid
    finally:
        process.terminate()
        process.wait()


def _tok0n(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tok0n", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"tok0n {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


if __name__ == "__main__":
    main()
