"""Real proxies in front of a server: nginx, HAProxy and Caddy, as docs/operations.md shows them and in other forms."""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from support.free_ports import free_port

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

_DOCUMENTED_PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"
_DOCUMENTED = {
    "documented-nginx": (
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nevents {{ worker_connections 512; }}\n"
        "http {{\naccess_log off;\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n"
        "server {{\nlisten 127.0.0.1:{port};\n{snippet}\n}}\n}}\n"
    ),
    "documented-haproxy": "{snippet}\nfrontend edge\n    bind 127.0.0.1:{port}\n    default_backend tok0n\n",
    "documented-caddy": "{{\nadmin off\nauto_https off\n}}\n{snippet}\n",
}
"""What the first snippet of docs/operations.md in the language of each proxy needs around it."""

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
DOCUMENTED = tuple(_DOCUMENTED)


@contextlib.asynccontextmanager
async def proxy(name: str, folder: Path, *, upstream_port: int, port: int | None = None) -> AsyncIterator[int]:
    """Run the named proxy in front of a port of this machine; gives the port that it listens on."""
    port = port or free_port()
    program_name = name.removeprefix("documented-").partition("-")[0]
    if name in _DOCUMENTED:
        snippet = _snippet(program_name, upstream_port=upstream_port, port=port)
        config = _DOCUMENTED[name].format(folder=folder, port=port, snippet=snippet)
    elif program_name == "nginx":
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
    else:
        config = (_HAPROXY if program_name == "haproxy" else _CADDY).format(port=port, upstream=upstream_port)
    file = folder / "proxy.conf"
    file.write_text(config)
    arguments = {
        "nginx": ["-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")],
        "haproxy": ["-db", "-f", str(file)],
        "caddy": ["run", "--config", str(file), "--adapter", "caddyfile"],
    }[program_name]
    program = shutil.which(program_name, path=PATH)
    assert program is not None, f"{program_name} is missing: make test-proxies installs it"
    with (folder / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=log, stderr=log, env={"PATH": PATH, "HOME": str(folder)}
        )
    try:
        await _listening(port, process, folder)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _snippet(language: str, *, upstream_port: int, port: int) -> str:
    """The first snippet of the page in this language, with the ports of the test."""
    found = re.search(rf"^```{language}\n(.*?)^```", _DOCUMENTED_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/operations.md has no snippet for {language}"
    snippet = found[1].replace("127.0.0.1:8080", f"127.0.0.1:{upstream_port}")
    return snippet.replace("example.com {", f"http://:{port} {{")


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
