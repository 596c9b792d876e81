"""Somebody with a browser that has no script: follows links, fills in forms, keeps cookies."""

import html
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

SAME_ORIGIN = {"sec-fetch-site": "same-origin"}
"""What a browser says of a request that a page of the same site sends."""

PAGES = "text/html,application/xhtml+xml,*/*;q=0.8"
"""What a browser accepts when it opens a page."""


_SECRET_PAGE = re.compile(r"/dashboard/(keys/\w+/secret(\?again=1)?|settings/recovery-codes)$")


class Visitor:
    """One browser's worth of cookies."""

    def __init__(self, url: str) -> None:
        # Plain HTTP needs no certificates, and loading them takes 30 ms.
        self._http = httpx.AsyncClient(base_url=url, timeout=60, headers={"accept": PAGES}, verify=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._http.cookies

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self._http.get(path, headers=headers)

    async def post(
        self,
        path: str,
        fields: dict[str, str] | None = None,
        *,
        page: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send the form of the page at `page`, or of `path` itself, with what is hidden in it."""
        shown = await self.get(page or path)
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"[^>]*>', shown.text)
        filled = {name: html.unescape(value) for name, value in hidden} | (fields or {})
        return await self.post_raw(path, filled, headers)

    async def post_raw(
        self, path: str, fields: Mapping[str, str | list[str]], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a form without having looked at its page. Follows the redirect to a page of new secrets."""
        answer = await self._http.post(path, data=dict(fields), headers=SAME_ORIGIN | (headers or {}))
        if answer.next_request is None or not _SECRET_PAGE.search(str(answer.next_request.url)):
            return answer
        return await self._http.send(answer.next_request)

    async def sign_in(self, email: str, password: str) -> httpx.Response:
        return await self.post("/sign-in", {"email": email, "password": password})


def text_of(answer: httpx.Response) -> str:
    """What a page says, without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


def words_of(answer: httpx.Response) -> str:
    """The words of a page, with one space between them."""
    return " ".join(text_of(answer).split())
