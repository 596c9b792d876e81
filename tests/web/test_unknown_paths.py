"""Paths and methods that do not exist: JSON that says what to do for programs, a page for a browser."""

import httpx
import pytest

from support.gateways import Running
from support.http import request

pytestmark = pytest.mark.anyio

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "path", "names_base"),
    [
        ("POST", "/chat/completions", True),
        ("POST", "/api/v1/chat/completions", True),
        ("POST", "/v1/v1/chat/completions", True),
        ("POST", "/openai/deployments/demo/chat/completions", True),
        ("POST", "/responses", True),
        ("POST", "/embeddings", True),
        ("GET", "/models", True),
        ("GET", "/models/demo", True),
        ("GET", "/nothing", False),
        ("POST", "/nothing", False),
        ("DELETE", "/nothing", False),
        ("GET", "/v1", False),
        ("GET", "/v1/", False),
        ("POST", "/v1/embeddings", False),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "application/json", None])
async def test_a_program_gets_json_with_the_base_url(
    site: Running, method: str, path: str, accept: str | None, *, names_base: bool
) -> None:
    headers = {} if accept is None else {"accept": accept}
    answer = await request(site.base_url, method, path, headers=headers)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (404, "not_found", "invalid_request_error")
    assert site.base_url in answer.error["message"]
    assert ("Set your client's base URL" in answer.error["message"]) == names_base


@pytest.mark.parametrize(
    ("method", "path", "accept", "is_page"),
    [
        ("GET", "/nothing", BROWSER, True),
        ("HEAD", "/nothing", BROWSER, True),
        ("POST", "/nothing", BROWSER, False),
        ("GET", "/v1/nothing", BROWSER, False),
        ("GET", "/nothing", "image/png", False),
    ],
)
async def test_only_a_browsers_page_request_gets_a_page(
    site: Running, method: str, path: str, accept: str, *, is_page: bool
) -> None:
    async with httpx.AsyncClient(base_url=site.url) as client:
        answer = await client.request(method, path, headers={"accept": accept})
    shown_as_page = answer.headers["content-type"].startswith("text/html")
    assert (answer.status_code, shown_as_page) == (404, is_page)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/sign-in", {"GET", "HEAD", "POST"}),
        ("POST", "/docs", {"GET", "HEAD"}),
        ("GET", "/v1/chat/completions", {"POST"}),
        ("OPTIONS", "/v1/chat/completions", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("PUT", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_a_path_does_not_have_names_those_it_has(
    site: Running, method: str, path: str, allow: set[str]
) -> None:
    answer = await request(site.base_url, method, path)
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allow
