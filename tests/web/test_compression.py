"""gzip: for assets and for pages that anybody may read, and for nothing that holds a secret."""

import re

import httpx
import pytest

from support.gateways import Running
from support.visitor import Visitor
from tok0n.web.rendering.compression import COMPRESSED_BYTES_MIN, accepts_gzip

pytestmark = pytest.mark.anyio

GZIP = {"accept-encoding": "br, gzip;q=0.5"}
PLAIN = {"accept-encoding": "identity"}


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/limits", "/docs/limits.md", "/assets/tok0n.css?v=1"])
async def test_what_anybody_may_read_is_compressed(visitor: Visitor, path: str) -> None:
    plain = await visitor.get(path, PLAIN)
    gzipped = await visitor.get(path, GZIP)

    assert "content-encoding" not in plain.headers
    assert gzipped.headers["content-encoding"] == "gzip"
    assert gzipped.content == plain.content
    assert int(plain.headers["content-length"]) == len(plain.content) > COMPRESSED_BYTES_MIN
    assert int(gzipped.headers["content-length"]) == gzipped.num_bytes_downloaded < len(plain.content)
    assert plain.headers["vary"] == gzipped.headers["vary"] == "accept-encoding"


async def test_a_small_page_is_not_compressed(visitor: Visitor) -> None:
    answer = await visitor.get("/llms.txt", GZIP)
    is_small = len(answer.content) <= COMPRESSED_BYTES_MIN

    assert ("content-encoding" in answer.headers) != is_small


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in?next=/dashboard", "/sign-up", "/reset-password"])
async def test_a_public_page_with_a_form_holds_no_secret_and_is_compressed(visitor: Visitor, path: str) -> None:
    answer = await visitor.get(path, GZIP)
    assert '<form method="post"' in answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("path", ["/", "/docs", "/dashboard", "/dashboard/keys", "/dashboard/settings", "/nothing"])
async def test_no_page_of_somebody_signed_in_is_compressed(customer: Visitor, path: str) -> None:
    answer = await customer.get(path, GZIP | {"accept": "text/html"})

    assert len(answer.content) > COMPRESSED_BYTES_MIN
    assert "content-encoding" not in answer.headers


async def test_the_api_is_not_compressed(site: Running) -> None:
    async with httpx.AsyncClient(headers=GZIP | {"authorization": f"Bearer {site.api_key}"}) as http:
        body = {"model": "demo", "messages": [{"role": "user", "content": "x" * 4_000}]}
        answers = [await http.post(f"{site.base_url}/chat/completions", json=body)]
        answers += [await http.get(f"{site.base_url}/{path}") for path in ("models", "balance", "nothing")]

    assert [answer.headers.get("content-encoding") for answer in answers] == [None] * 4


async def test_an_asset_that_the_browser_holds_is_not_sent_again(visitor: Visitor) -> None:
    page = await visitor.get("/")
    found = re.search(r'"(/assets/tok0n\.css\?v=\w+)"', page.text)
    assert found is not None
    first = await visitor.get(found[1], GZIP)
    plain = await visitor.get(found[1], PLAIN)
    assert first.headers["etag"] != plain.headers["etag"]
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"

    for tag, status in ((first.headers["etag"], 304), (f'"x", W/{first.headers["etag"]}', 304), ('"x"', 200)):
        again = await visitor.get(found[1], GZIP | {"if-none-match": tag})
        assert again.status_code == status
        assert again.headers["etag"] == first.headers["etag"]
    assert (await visitor.get(found[1], PLAIN | {"if-none-match": first.headers["etag"]})).status_code == 200
    assert (await visitor.get("/assets/nothing.css")).status_code == 404


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip ; q = 0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("gzip, *;q=0", True),
        ("identity, deflate", False),
        ("xgzip", False),
    ],
)
def test_accept_encoding_is_read_by_its_weights(header: str, *, accepts: bool) -> None:
    assert accepts_gzip(header) is accepts
