"""Style sheet, scripts and icon, at URLs that change with their content, so browsers cache them permanently."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.web.rendering.compression import ASSET_LEVEL, accepts_gzip, compress

FOLDER = Path(__file__).parent.parent / "assets"
HTMX = "htmx.min.js"
"""Added to the package when it is built (scripts/get_htmx.py). Without it, pages reload completely."""

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""A browser that opens an SVG file as a page must not run the scripts in it."""


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A file, plain and compressed. `version` is a digest of its content."""

    version: str
    media_type: str
    plain: bytes
    gzipped: bytes


class Assets:
    """Serves the files, which each process reads and compresses once. Their URLs start with `prefix`.

    `brand_assets` are the operator's.
    """

    def __init__(self, prefix: str = "", brand_assets: Mapping[str, Asset] = MappingProxyType({})) -> None:
        self._prefix = prefix
        self._assets = {file.name: _read(file) for file in FOLDER.iterdir() if file.suffix in MEDIA_TYPES}
        self._assets.update(brand_assets)

    @property
    def has_htmx(self) -> bool:
        """Whether pages can load htmx."""
        return HTMX in self._assets

    def url(self, name: str) -> str:
        """Return the URL path of a file, with its version."""
        return f"{self._prefix}/assets/{name}?v={self._assets[name].version}"

    def route(self) -> Route:
        """Return the route of the files."""
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
        if asset.media_type.startswith("image/"):
            headers["content-security-policy"] = _PICTURE_POLICY
        if is_gzipped:
            headers["content-encoding"] = "gzip"
        body = asset.gzipped if is_gzipped else asset.plain
        return Response(body, media_type=asset.media_type, headers=headers)


@functools.cache
def _read(file: Path) -> Asset:
    return make_asset(file.read_bytes(), MEDIA_TYPES[file.suffix])


def make_asset(plain: bytes, media_type: str) -> Asset:
    """Return an asset with its version and its compressed content."""
    return Asset(
        version=hashlib.sha256(plain).hexdigest()[:16],
        media_type=media_type,
        plain=plain,
        gzipped=compress(plain, level=ASSET_LEVEL),
    )


def _matches(etag: str, if_none_match: str) -> bool:
    """Whether the client has this version in its cache (RFC 9110, section 13.1.2: weak tags count)."""
    cached = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in cached or "*" in cached
