"""One request for a page: who visits, the form that came with it, and the answer with its security headers.

Every change is a POST that must come from our own pages: the browser says so (Sec-Fetch-Site, or Origin), and the form
carries a token that only those pages have.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import jinja2
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tok0n.domain.client_ip import ClientAddresses
from tok0n.domain.errors import CredentialsChanged, NotFound, Overloaded, Tok0nError
from tok0n.domain.users import PASSKEY_LIFE_US, SESSION_LIFE_US, UTC, Session
from tok0n.http.asgi import read_at_most
from tok0n.services.forms import new_form_id
from tok0n.services.sign_in import NewSession, SignIn
from tok0n.web.pages import filters
from tok0n.web.pages.assets import Assets
from tok0n.web.pages.compression import COMPRESSED_BYTES_MIN, accepts_gzip, compress

log = structlog.get_logger()

FORM_BYTES_MAX = 512 * 1024
FIELDS_MAX = 200
FORM_SECRET_BYTES = 16
GOAL_CHARACTERS_MAX = 500

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'{form_goal}; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Handler = Callable[["Visit"], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Site:
    """What all pages share."""

    def __init__(
        self,
        *,
        public_url: str,
        sign_in: SignIn,
        assets: Assets,
        has_passkeys: bool,
        has_mail: bool,
        trusted_proxies: Sequence[str],
    ) -> None:
        self.public_url = public_url
        self.sign_in = sign_in
        self.assets = assets
        self.has_passkeys = has_passkeys
        self.has_mail = has_mail
        self.is_secure = public_url.startswith("https://")
        self.prefix = urlsplit(public_url).path
        self.cookie_path = self.prefix or "/"
        self.session_cookie = self._cookie_name("tok0n")
        self.form_cookie = self._cookie_name("tok0n-form")
        self.passkey_cookie = self._cookie_name("tok0n-passkey")
        self.client_addresses = ClientAddresses(trusted_proxies)
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tok0n.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(filters.FILTERS)
        self._templates.globals.update(asset=assets.url, has_htmx=assets.has_htmx, with_query=_with_query, zip=zip)
        self._templates.globals.update(new_form_id=new_form_id, prefix=self.prefix)

    def page(self, handler: Handler, *, private: bool = False) -> Endpoint:
        """An endpoint of `handler`; a private one is for whoever is signed in."""

        async def endpoint(request: Request) -> Response:
            visit = Visit(self, request)
            try:
                await visit.load_session()
                if private and visit.session is None:
                    return await visit.to_sign_in()
                await visit.read_form()
                response = await handler(visit)
            except HTTPException as error:
                response = visit.error(error.status_code, error.detail)
            except Tok0nError as error:
                response = visit.failure(error)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody receives it
            return await visit.finish(response, private=private)

        return endpoint

    async def error(self, request: Request, status: int, message: str) -> Response:
        """A page that says what went wrong where there is no page."""
        visit = Visit(self, request)
        with contextlib.suppress(Tok0nError):
            await visit.load_session()
        return await visit.finish(visit.error(status, message), private=False)

    def limit_key(self, request: Request) -> str:
        """Who counts as one client for limits: the client's address, or the /64 of an IPv6 address."""
        peer = "" if request.client is None else request.client.host
        return self.client_addresses.limit_key(peer, request.headers.getlist("x-forwarded-for"))

    def link(self, path: str, query: Mapping[str, str]) -> str:
        """The prefixed path with its query begun: more parameters can be added to it."""
        return f"{self.prefix}{path}?{urlencode(query)}&" if query else f"{self.prefix}{path}?"

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """The text of a page."""
        return self._templates.get_template(template).render(context)

    def _cookie_name(self, name: str) -> str:
        """Browsers accept `__Host-` only with `Path=/`, so a path prefix takes `__Secure-`."""
        if not self.is_secure:
            return name
        return f"__Secure-{name}" if self.prefix else f"__Host-{name}"


class Page(HTMLResponse):
    """An answer that is rendered in a thread: a long page must not hold up the calls of others."""

    def __init__(self, site: Site, template: str, context: Mapping[str, Any], status: int) -> None:
        super().__init__(status_code=status)
        self._render = lambda: site.render(template, context)

    async def fill(self) -> None:
        """Render it."""
        self.body = (await asyncio.to_thread(self._render)).encode()
        self.headers["content-length"] = str(len(self.body))


class Visit:
    """One request for a page."""

    def __init__(self, site: Site, request: Request) -> None:
        self.site = site
        self.request = request
        self.session: Session | None = None
        self.form: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self._new_form_secret: str | None = None
        self._has_form_token = False
        self._form_goal = ""

    async def load_session(self) -> None:
        """Find out who visits."""
        self.session = await self.site.sign_in.who(self.cookie)

    @property
    def cookie(self) -> str | None:
        """The secret of the session, if there is one."""
        return self.request.cookies.get(self.site.session_cookie)

    @property
    def passkey_cookie(self) -> str | None:
        """The secret of the visitor who asked to sign in with a passkey, if there is one."""
        return self.request.cookies.get(self.site.passkey_cookie)

    def set_passkey_cookie(self, response: Response, secret: str) -> None:
        """Give the visitor the secret that a passkey challenge is bound to, for as long as that works."""
        self._set_cookie(response, self.site.passkey_cookie, secret, seconds=PASSKEY_LIFE_US // 1_000_000)

    @property
    def user(self) -> Session:
        """Whoever is signed in; only on private pages."""
        assert self.session is not None
        return self.session

    @property
    def account_id(self) -> str:
        """The account of whoever is signed in."""
        return self.user.account_id

    @property
    def path(self) -> str:
        """The path of the request, decoded. `Request.url` is not used: it raises on some Host headers."""
        path: str = self.request.scope["path"]
        return path

    @property
    def agent(self) -> str:
        """What the browser calls itself."""
        return self.request.headers.get("user-agent", "")

    @property
    def limit_key(self) -> str:
        """Who counts as one client for limits."""
        return self.site.limit_key(self.request)

    @property
    def is_post(self) -> bool:
        """Whether something was sent to be done."""
        return self.request.method == "POST"

    def let_forms_lead_to(self, origin: str) -> None:
        """Allow a form of this page to end at another site: browsers hold a redirect to be part of the form."""
        self._form_goal = f" {origin}"

    def query(self, name: str) -> str:
        """A parameter of the address, or nothing."""
        return self.request.query_params.get(name, "").strip()

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Render a page."""
        zone = UTC if self.session is None else self.session.time_zone
        everything = {
            "site": self.site,
            "session": self.session,
            "path": self.path,
            "form_token": _LazyToken(self.form_token),
            "base_url": f"{self.site.public_url}/v1",
            "zone": filters.zone_of(zone),
            "zone_name": zone,
            "form_error": None,
            "form": self.form,
        }
        return Page(self.site, template, everything | context, status)

    def message(self, title: str, text: str, *, status: int = 200) -> Response:
        """A page that only says something."""
        return self.page("message.html", status=status, title=title, text=text)

    def mailed(self, text: str) -> Response:
        """A page that says that a mail is on its way, or where it is when no mail can be sent."""
        if not self.site.has_mail:
            text += " This server can't send email, so contact support to get the link."
        return self.message("Check your email", text)

    def error(self, status: int, message: str) -> Response:
        """A page that says what went wrong."""
        titles = {403: "Form expired", 404: "Page not found", 405: "Not allowed"}
        titles |= {413: "Form too large", 500: "Something went wrong", 503: "Temporarily unavailable"}
        text = "Check the URL. The page may have moved or been deleted." if status == 404 else message
        return self.message(titles.get(status, "Something went wrong"), text, status=status)

    def failure(self, error: Tok0nError) -> Response:
        """A page for what a use case could not do."""
        if isinstance(error, NotFound):
            return self.error(404, error.message)
        if isinstance(error, CredentialsChanged):
            return self.message("Sign in again", error.message, status=409)
        if isinstance(error, Overloaded):
            return self.error(503, "The server is busy. Try again in a few seconds.")
        log.error("page_failed", detail=error.detail or error.message)
        return self.error(500, "We couldn't complete this request, and nothing was changed. Try again in a moment.")

    def redirect(self, to: str) -> Response:
        """Go on elsewhere, with a GET. Only to a path of ours, given without the path prefix."""
        return RedirectResponse(self.site.prefix + (to if _is_ours(to) else "/dashboard"), 303)

    async def to_sign_in(self) -> Response:
        """Sign in first, then come back to what was asked for."""
        query = self.request.scope["query_string"].decode("latin-1")
        goal = self.path + (f"?{query}" if query else "")
        if self.is_post or len(goal) > GOAL_CHARACTERS_MAX:
            goal = "/dashboard"
        return await self.finish(self.redirect(f"/sign-in?next={quote(goal)}"), private=True)

    def sign_in(self, new: NewSession, *, goal: str = "/dashboard") -> Response:
        """Put the secret of a new session into its cookie, and go on."""
        response = self.redirect(f"/second-factor?next={quote(goal)}" if new.waits else goal)
        self._set_cookie(response, self.site.session_cookie, new.secret, seconds=SESSION_LIFE_US // 1_000_000)
        return response

    def sign_out(self) -> Response:
        """Take the cookie away."""
        response = self.redirect("/")
        response.delete_cookie(
            self.site.session_cookie, path=self.site.cookie_path, secure=self.site.is_secure, httponly=True
        )
        return response

    async def finish(self, response: Response, *, private: bool) -> Response:
        """Render what is to be rendered, and add what every answer has."""
        if isinstance(response, Page):
            await response.fill()
        response.headers.update(_HEADERS)
        response.headers["content-security-policy"] = _POLICY.format(form_goal=self._form_goal)
        is_own = private or self.session is not None or self.is_post or self._new_form_secret is not None
        response.headers["cache-control"] = "no-store" if is_own else "no-cache"
        if not is_own and not self._has_form_token:
            await self._compress(response)
        if self.site.is_secure:
            response.headers["strict-transport-security"] = "max-age=31536000"
        if self._new_form_secret is not None:
            self._set_cookie(response, self.site.form_cookie, self._new_form_secret, seconds=None)
        return response

    async def _compress(self, response: Response) -> None:
        """Compress a page that anybody may read, if the client takes gzip."""
        if len(response.body) <= COMPRESSED_BYTES_MIN:
            return
        response.headers.add_vary_header("accept-encoding")
        if accepts_gzip(self.request.headers.get("accept-encoding", "")):
            response.body = await asyncio.to_thread(compress, bytes(response.body))
            response.headers["content-encoding"] = "gzip"
            response.headers["content-length"] = str(len(response.body))

    async def read_form(self) -> None:
        """Read what was sent. Raises `HTTPException` when it did not come from a page of ours."""
        if not self.is_post:
            return
        body = await read_at_most(self.request.stream(), FORM_BYTES_MAX)
        if body is None:
            raise HTTPException(413, f"A form can have at most {FORM_BYTES_MAX // 1024} KiB.")
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
        except ValueError:
            raise HTTPException(400, "We couldn't read this form. Reload the page and try again.") from None
        if any("\0" in text for field in fields for text in field):
            raise HTTPException(400, "A form can't contain NUL characters.")
        self.form = dict(fields)
        for name, value in fields:
            self.choices.setdefault(name, []).append(value)
        if not self._is_from_our_pages():
            raise HTTPException(403, "This form has expired. Reload the page and try again.")

    def _is_from_our_pages(self) -> bool:
        headers = self.request.headers
        site = headers.get("sec-fetch-site")
        if site is not None and site != "same-origin":
            return False
        origin = headers.get("origin")
        ours = {headers.get("host"), urlsplit(self.site.public_url).netloc}
        if origin is not None and _host_of(origin) not in ours - {None}:
            return False
        secret = self._form_secret()
        given = self.form.get("form_token", "")
        return secret is not None and hmac.compare_digest(_token_of(secret).encode(), given.encode())

    def _form_secret(self) -> str | None:
        if self.session is not None:
            return self.cookie
        return self.request.cookies.get(self.site.form_cookie)

    def form_token(self) -> str:
        """What proves that a form is ours; makes the cookie that goes with it where there is none."""
        self._has_form_token = True
        secret = self._form_secret()
        if secret is None:
            secret = self._new_form_secret = self._new_form_secret or secrets.token_urlsafe(FORM_SECRET_BYTES)
        return _token_of(secret)

    def _set_cookie(self, response: Response, name: str, value: str, *, seconds: int | None) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self.site.cookie_path,
            secure=self.site.is_secure,
            httponly=True,
            samesite="lax",
        )


class _LazyToken:
    """A page without a form needs no cookie, and may be kept."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __html__(self) -> str:
        return self._make()


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; None if it is no URL."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _is_ours(path: str) -> bool:
    """Whether a browser that is sent there stays on this site: it reads a backslash as a slash, and skips controls."""
    return path.startswith("/") and path.isprintable() and not path.startswith(("//", "/\\"))


def _with_query(query: Mapping[str, str], **changes: str | int | None) -> str:
    """The query of an address with some parameters changed; None and nothing take one away."""
    changed = {**query, **{name: "" if value is None else str(value) for name, value in changes.items()}}
    return "?" + urlencode({name: value for name, value in changed.items() if value})


def _token_of(secret: str) -> str:
    return hashlib.sha256(b"form:" + secret.encode()).hexdigest()
