"""Real proxies in front of a server: nginx in its usual forms, HAProxy and Caddy, each with keep-alive connections."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from support.ports import free_port

START_SECONDS_MAX = 20
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"

_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    large_client_header_buffers 4 128k;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream tok0n {{ server 127.0.0.1:{upstream}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location {path} {{
            proxy_pass http://tok0n{target};
            proxy_http_version 1.1;
            {headers}
        }}
    }}
}}
"""
_NGINX_HEADERS = {
    "nginx": 'proxy_set_header Connection "";',
    "nginx-unbuffered": 'proxy_set_header Connection ""; proxy_request_buffering off; proxy_buffering off;',
    "nginx-websocket-map": (
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
        " proxy_set_header Host $host;"
    ),
    "nginx-websocket": 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";',
}
_NGINX_PATHS = {"nginx-path-kept": "", "nginx-path-stripped": "/"}
"""Proxies that serve below /tok0n/, and the path that they put in its place."""

_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option forwardfor
frontend edge
    bind 127.0.0.1:{port}
    default_backend tok0n
backend tok0n
    http-reuse always
    server one 127.0.0.1:{upstream} pool-max-conn 1
"""
_CADDY = """
{{
    admin off
    auto_https off
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{upstream} {{
        transport http {{
            max_conns_per_host 4
            keepalive_idle_conns_per_host 1
        }}
    }}
}}
"""

PROXIES = (*_NGINX_HEADERS, "haproxy", "caddy")
BELOW_A_PATH = tuple(_NGINX_PATHS)


@contextlib.asynccontextmanager
async def proxy(name: str, folder: Path, *, upstream_port: int, port: int | None = None) -> AsyncIterator[int]:
    """Run the named proxy in front of a port of this machine; gives the port that it listens on."""
    port = port or free_port()
    if name.startswith("nginx"):
        headers = _NGINX_HEADERS.get(name, _NGINX_HEADERS["nginx"])
        path = "/tok0n/" if name in _NGINX_PATHS else "/"
        config = _NGINX.format(
            folder=folder,
            port=port,
            upstream=upstream_port,
            headers=headers,
            path=path,
            target=_NGINX_PATHS.get(name, ""),
        )
        command = ["nginx", "-p", str(folder), "-c", str(folder / "proxy.conf"), "-e", str(folder / "error.log")]
    elif name == "haproxy":
        config = _HAPROXY.format(port=port, upstream=upstream_port)
        command = ["haproxy", "-db", "-f", str(folder / "proxy.conf")]
    else:
        config = _CADDY.format(port=port, upstream=upstream_port)
        command = ["caddy", "run", "--config", str(folder / "proxy.conf"), "--adapter", "caddyfile"]
    (folder / "proxy.conf").write_text(config)
    program = shutil.which(command[0], path=PATH)
    assert program is not None, f"{command[0]} is missing: make test-proxies installs it"
    with (folder / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *command[1:], stdout=log, stderr=log, env={"PATH": PATH, "HOME": str(folder)}
        )
    try:
        await _listening(port, process, folder)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process, folder: Path) -> None:
    async with asyncio.timeout(START_SECONDS_MAX):
        while True:
            assert process.returncode is None, (folder / "proxy.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
