"""Style, script and icon, by addresses that change with their content: a browser keeps them for good."""

import hashlib
from pathlib import Path

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "assets"
HTMX = "htmx.min.js"
"""Copied here when the package is built (scripts/get_htmx.py); without it forms post and pages load whole."""


class Assets:
    """The files, and their addresses."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._versions = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16]
            for file in FOLDER.iterdir()
            if file.suffix in {".css", ".js", ".svg"}
        }

    @property
    def has_htmx(self) -> bool:
        """Whether pages can change in place."""
        return HTMX in self._versions

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"{self._prefix}/assets/{name}?v={self._versions[name]}"

    def route(self) -> Mount:
        """Where the files are."""
        return Mount("/assets", _Kept(directory=FOLDER))


class _Kept(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["x-content-type-options"] = "nosniff"
        if scope["query_string"].startswith(b"v="):
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response
