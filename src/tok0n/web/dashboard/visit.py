"""One request for a page: who visits, the form that came with it, and the answer with its security headers.

Every change is a POST that must come from our own pages: the browser says so (Sec-Fetch-Site, or Origin), and the form
carries a token that only those pages have.
"""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tok0n.domain.people import SESSION_LIFE_US, SignedIn
from tok0n.services.signing import Signing
from tok0n.web.dashboard import filters

FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 100
FORM_SECRET_BYTES = 16

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Handler = Callable[["Visit"], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Site:
    """What all pages share."""

    def __init__(self, *, public_url: str, signing: Signing, open_to_all: bool) -> None:
        self.public_url = public_url
        self.signing = signing
        self.open_to_all = open_to_all
        self.is_secure = public_url.startswith("https://")
        self.session_cookie = "__Host-tok0n" if self.is_secure else "tok0n"
        self.form_cookie = "__Host-tok0n-form" if self.is_secure else "tok0n-form"
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tok0n.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(filters.FILTERS)

    def page(self, handler: Handler, *, private: bool = False) -> Endpoint:
        """An endpoint of `handler`; a private one is for whoever is signed in."""

        async def endpoint(request: Request) -> Response:
            session = await self.signing.who(request.cookies.get(self.session_cookie))
            visit = Visit(self, request, session)
            if private and session is None:
                return visit.redirect(f"/sign-in?next={quote(request.url.path)}")
            await visit.read_form()
            return visit.finish(await handler(visit), private=private)

        return endpoint

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """The text of a page."""
        return self._templates.get_template(template).render(context)


class Visit:
    """One request for a page."""

    def __init__(self, site: Site, request: Request, session: SignedIn | None) -> None:
        self.site = site
        self.request = request
        self.session = session
        self.form: dict[str, str] = {}
        self._new_form_secret: str | None = None

    @property
    def account_id(self) -> str:
        """The account of whoever is signed in."""
        assert self.session is not None
        return self.session.account_id

    @property
    def agent(self) -> str:
        """What the browser calls itself."""
        return self.request.headers.get("user-agent", "")

    @property
    def is_post(self) -> bool:
        """Whether something was sent to be done."""
        return self.request.method == "POST"

    def query(self, name: str) -> str:
        """A parameter of the address, or nothing."""
        return self.request.query_params.get(name, "")

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Render a page."""
        everything = {
            "site": self.site,
            "session": self.session,
            "path": self.request.url.path,
            "form_token": self._form_token(),
            "base_url": f"{self.site.public_url}/v1",
        }
        return HTMLResponse(self.site.render(template, everything | context), status)

    def redirect(self, to: str) -> Response:
        """Go on elsewhere, with a GET. Only to a path of ours."""
        if not to.startswith("/") or to.startswith(("//", "/\\")):
            to = "/dashboard"
        return RedirectResponse(to, 303)

    def sign_in(self, response: Response, secret: str) -> Response:
        """Put the secret of a new session into its cookie."""
        self._set_cookie(response, self.site.session_cookie, secret, seconds=SESSION_LIFE_US // 1_000_000)
        return response

    def sign_out(self, response: Response) -> Response:
        """Take the cookie away."""
        response.delete_cookie(self.site.session_cookie, path="/", secure=self.site.is_secure, httponly=True)
        return response

    def finish(self, response: Response, *, private: bool) -> Response:
        """Add what every answer has."""
        response.headers.update(_HEADERS)
        if private or self.session is not None or self.is_post or self._new_form_secret:
            response.headers["cache-control"] = "no-store"
        if self.site.is_secure:
            response.headers["strict-transport-security"] = "max-age=31536000"
        if self._new_form_secret is not None:
            self._set_cookie(response, self.site.form_cookie, self._new_form_secret, seconds=None)
        return response

    async def read_form(self) -> None:
        """Read what was sent. Raises `HTTPException` when it did not come from a page of ours."""
        if not self.is_post:
            return
        body = b""
        async for part in self.request.stream():
            body += part
            if len(body) > FORM_BYTES_MAX:
                raise HTTPException(413, "The form is too large.")
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
        except ValueError:
            raise HTTPException(400, "The form could not be read.") from None
        self.form = dict(fields)
        if not self._is_from_our_pages():
            raise HTTPException(
                403, "This form has grown old, or was not ours. Go back, reload the page, and try again."
            )

    def _is_from_our_pages(self) -> bool:
        headers = self.request.headers
        site = headers.get("sec-fetch-site")
        if site is not None and site != "same-origin":
            return False
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in {
            headers.get("host"),
            urlsplit(self.site.public_url).netloc,
        }:
            return False
        secret = self._form_secret()
        return secret is not None and hmac.compare_digest(_token_of(secret), self.form.get("form_token", ""))

    def _form_secret(self) -> str | None:
        cookies = self.request.cookies
        if self.session is not None:
            return cookies.get(self.site.session_cookie)
        return cookies.get(self.site.form_cookie)

    def _form_token(self) -> str:
        secret = self._form_secret()
        if secret is None:
            secret = self._new_form_secret = self._new_form_secret or secrets.token_urlsafe(FORM_SECRET_BYTES)
        return _token_of(secret)

    def _set_cookie(self, response: Response, name: str, value: str, *, seconds: int | None) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self.site.is_secure, httponly=True, samesite="lax"
        )


def _token_of(secret: str) -> str:
    return hashlib.sha256(b"form:" + secret.encode()).hexdigest()
