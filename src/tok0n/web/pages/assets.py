"""Style, script and icon, by addresses that change with their content: a browser keeps them for good."""

import functools
import hashlib
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.web.pages.compression import ASSET_LEVEL, accepts_gzip, compress

FOLDER = Path(__file__).parent.parent / "assets"
HTMX = "htmx.min.js"
"""Copied here when the package is built (scripts/get_htmx.py); without it forms post and pages load whole."""

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A file, as it is and compressed. `version` is a digest of its content."""

    version: str
    media_type: str
    plain: bytes
    gzipped: bytes


class Assets:
    """The files, which a process reads and compresses once, and their addresses below `prefix`."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._assets = {file.name: _read(file) for file in FOLDER.iterdir() if file.suffix in _TYPES}

    @property
    def has_htmx(self) -> bool:
        """Whether pages can change in place."""
        return HTMX in self._assets

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"{self._prefix}/assets/{name}?v={self._assets[name].version}"

    def route(self) -> Route:
        """Where the files are."""
        return Route("/assets/{name}", self._get)

    async def _get(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        is_gzipped = accepts_gzip(request.headers.get("accept-encoding", ""))
        etag = f'"{asset.version}-gzip"' if is_gzipped else f'"{asset.version}"'
        headers = {"etag": etag, "vary": "accept-encoding", "x-content-type-options": "nosniff"}
        if request.scope["query_string"].startswith(b"v="):
            headers["cache-control"] = "public, max-age=31536000, immutable"
        if _matches(etag, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if is_gzipped:
            headers["content-encoding"] = "gzip"
        body = asset.gzipped if is_gzipped else asset.plain
        return Response(body, media_type=asset.media_type, headers=headers)


@functools.cache
def _read(file: Path) -> Asset:
    plain = file.read_bytes()
    return Asset(
        version=hashlib.sha256(plain).hexdigest()[:16],
        media_type=_TYPES[file.suffix],
        plain=plain,
        gzipped=compress(plain, level=ASSET_LEVEL),
    )


def _matches(etag: str, if_none_match: str) -> bool:
    """Whether a client holds this version already (RFC 9110, section 13.1.2: weak tags count)."""
    held = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in held or "*" in held
