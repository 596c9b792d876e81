"""One request for a page, with its session and form, and the response with its security headers."""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tok0n.domain.client_ip import network_of
from tok0n.domain.errors import AccountSuspended, CredentialsChanged, NotFound, Overloaded, Tok0nError
from tok0n.domain.ledger import MICROSECONDS_PER_SECOND
from tok0n.domain.users import (
    DEVICE_LIFETIME_US,
    LINK_LIFETIME_US,
    PASSKEY_LIFETIME_US,
    SESSION_LIFETIME_US,
    UTC,
    Agent,
    Session,
)
from tok0n.http.asgi import read_at_most
from tok0n.services.sign_in import NewSession
from tok0n.web.rendering import filters, flash
from tok0n.web.rendering.compression import COMPRESSED_BYTES_MIN, accepts_gzip, compress
from tok0n.web.rendering.cross_site import is_same_origin
from tok0n.web.rendering.flash import CONFIRMATIONS, COOKIE_LIFETIME_US
from tok0n.web.rendering.page_context import PageContext

log = structlog.get_logger()

FORM_BYTES_MAX = 512 * 1024
FIELDS_MAX = 200
NEXT_URL_CHARACTERS_MAX = 500

SUSPENDED_TEXT = (
    "You can still read and export everything, and revoke API keys. You can't send requests, buy tokens, redeem codes,"
    " or create or change API keys."
)

_RETRIED_STATUSES = frozenset({500, 503})
"""Errors that the same request may not get again."""

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'{form_target}; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Page(HTMLResponse):
    """A response that is rendered in a thread, so that a long page can't block the event loop."""

    def __init__(self, page_context: PageContext, template: str, context: Mapping[str, Any], status: int) -> None:
        super().__init__(status_code=status)
        self._render = lambda: page_context.render(template, context)

    async def render_body(self) -> None:
        """Render the template into the body."""
        self.body = (await asyncio.to_thread(self._render)).encode()
        self.headers["content-length"] = str(len(self.body))


class PageRequest:
    """A request for a page. Handlers read it, and call its methods to create the response."""

    def __init__(self, page_context: PageContext, request: Request) -> None:
        self.context = page_context
        self.request = request
        self.session_or_none: Session | None = None
        self.form: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self._form_target = ""

    async def load_session(self) -> None:
        """Load the session that the cookie identifies."""
        self.session_or_none = await self.context.sign_in.find_session(self.cookie)

    @property
    def cookie(self) -> str | None:
        """The secret in the session cookie, or None."""
        return self.request.cookies.get(self.context.session_cookie)

    @property
    def passkey_cookie(self) -> str | None:
        """The secret that a passkey challenge is bound to, or None."""
        return self.request.cookies.get(self.context.passkey_cookie)

    def set_passkey_cookie(self, response: Response, secret: str) -> None:
        """Set the cookie with the secret of a passkey challenge, which expires with the challenge."""
        self.set_cookie(response, self.context.passkey_cookie, secret, lifetime_us=PASSKEY_LIFETIME_US)

    @property
    def sign_up_cookie(self) -> str | None:
        """The secret of this browser's latest sign-up, or None."""
        return self.request.cookies.get(self.context.sign_up_cookie)

    def set_sign_up_cookie(self, response: Response, secret: str) -> None:
        """Set the cookie that lets this browser use the emailed link of its sign-up without the password."""
        self.set_cookie(response, self.context.sign_up_cookie, secret, lifetime_us=LINK_LIFETIME_US)

    @property
    def is_navigation(self) -> bool:
        """Whether a user opens this page in a tab, as opposed to a prefetch, an image or a HEAD request."""
        headers = self.request.headers
        is_prefetch = "sec-purpose" in headers or "purpose" in headers or "x-moz" in headers
        is_document = headers.get("sec-fetch-dest", "document") == "document"
        return self.request.method == "GET" and is_document and not is_prefetch

    @property
    def session(self) -> Session:
        """The session of the signed-in user, which every private page has. Other pages read `session_or_none`."""
        assert self.session_or_none is not None
        return self.session_or_none

    @property
    def account_id(self) -> str:
        """The account of the signed-in user."""
        return self.session.account_id

    @property
    def path(self) -> str:
        """The path of the request, decoded. `Request.url` is not used: it raises on some Host headers."""
        path: str = self.request.scope["path"]
        return path

    @property
    def _url(self) -> str:
        """The path and query of the request, without the prefix."""
        query = self.request.scope["query_string"].decode("latin-1")
        return self.path + (f"?{query}" if query else "")

    @property
    def agent(self) -> Agent:
        """The browser that sends the request."""
        return Agent(
            user_agent=self.request.headers.get("user-agent", ""),
            network=network_of(self.client_ip()),
            device=self.request.cookies.get(self.context.device_cookie, ""),
        )

    @property
    def limit_key(self) -> str:
        """The client that limits count by: an IPv4 address or an IPv6 /64 network."""
        return self.context.limit_key(self.request)

    def client_ip(self) -> str:
        """Return the client IP."""
        return self.context.client_ip(self.request)

    @property
    def is_post(self) -> bool:
        """Whether the method is POST."""
        return self.request.method == "POST"

    @property
    def _flash(self) -> str:
        """The confirmation that this page shows, or an empty string. A script that fetches a part shows none."""
        return (
            flash.confirmation_text(self.request.cookies.get(self.context.flash_cookie)) if self.is_navigation else ""
        )

    @property
    def link(self) -> str:
        """The secret of the emailed link that opened this page, or an empty string."""
        return self.form.get("link", "") or self.query("link")

    @property
    def next_url(self) -> str:
        """Where to continue after signing in."""
        return self.form.get("next", "") or self.query("next") or "/dashboard"

    def allow_form_target(self, origin: str) -> None:
        """Allow a form of this page to redirect to another origin, which browsers otherwise block."""
        self._form_target = f" {origin}"

    def query(self, name: str) -> str:
        """Return a query parameter, or an empty string."""
        return self.request.query_params.get(name, "").strip()

    def render(self, template: str, *, status: int | None = None, **context: Any) -> Response:
        """Return a response that renders a template. `context` overrides the variables that all templates have.

        Without a `status`, it is 422 with a `form_error`, and 200 otherwise.
        """
        session = self.session_or_none
        zone = UTC if session is None else session.time_zone
        error = context.get("form_error")
        if error is not None:
            error.__traceback__ = None  # It refers to the handler's frame: the cycle would keep the form in memory.
        shared = {
            "page_context": self.context,
            "session": session,
            "path": self.path,
            "base_url": self.context.base_url,
            "zone": filters.zone_of(zone),
            "zone_name": zone,
            "form_error": None,
            "is_form_result": self.is_post and (error is not None or template == "message.html"),
            "flash": self._flash,
            "form": self.form,
            "link": self.link,
            "next_url": self.next_url,
            "suspended_text": SUSPENDED_TEXT if session is not None and session.is_suspended else "",
        }
        return Page(self.context, template, shared | context, status or (200 if error is None else 422))

    def message(self, title: str, text: str, *, status: int = 200, action: tuple[str, str] | None = None) -> Response:
        """Return a page with only a title and a message. `action` is the path and the label of the next step."""
        return self.render("message.html", status=status, title=title, text=text, action=action)

    def email_sent(self, sent: str, *, unsent: str) -> Response:
        """Return a page that says that an email was sent, or `unsent` where no email can be sent."""
        if self.context.has_mail:
            return self.message("Check your email", sent)
        return self.message("Contact support", f"{unsent} This service doesn't send email.")

    def error(self, status: int, message: str) -> Response:
        """Return the page of an HTTP error."""
        titles = {403: "Not allowed", 404: "Page not found", 405: "Not allowed"}
        titles |= {413: "Form too large", 500: "Something went wrong", 503: "Temporarily unavailable"}
        text = "Check the URL. The page may have moved or been deleted." if status == 404 else message
        may_retry = status in _RETRIED_STATUSES and self.request.method == "GET" and _is_local(self._url)
        action = (self._url, "Try again") if may_retry else None
        return self.message(titles.get(status, "Something went wrong"), text, status=status, action=action)

    def failure(self, error: Tok0nError) -> Response:
        """Return the page for an error of a use case."""
        if isinstance(error, NotFound):
            return self.error(404, error.message)
        if isinstance(error, CredentialsChanged):
            return self.message("Sign in again", error.message, status=409)
        if isinstance(error, AccountSuspended):
            text = "You can't do this while your account is suspended. Nothing was changed. Contact support."
            return self.message("Account suspended", text, status=403)
        if isinstance(error, Overloaded):
            return self.error(503, "The server is busy. Try again in a few seconds.")
        log.error("page_failed", detail=error.detail or error.message)
        return self.error(500, "We couldn't complete this request, and nothing was changed. Try again in a moment.")

    def redirect(self, to: str, *, confirm: str = "") -> Response:
        """Redirect with GET to one of our paths, without the prefix. Other URLs redirect to the dashboard.

        The next page shows the confirmation with the code `confirm` once.
        """
        response = RedirectResponse(self.context.prefix + (to if _is_local(to) else "/dashboard"), 303)
        if confirm:
            assert confirm in CONFIRMATIONS
            self.set_cookie(response, self.context.flash_cookie, confirm, lifetime_us=COOKIE_LIFETIME_US)
        return response

    async def to_sign_in(self) -> Response:
        """Redirect to the sign-in page, which redirects back to this page."""
        next_url = self._url
        if self.is_post or len(next_url) > NEXT_URL_CHARACTERS_MAX:
            next_url = "/dashboard"
        return await self.finish(self.redirect(f"/sign-in?next={quote(next_url)}"), private=True)

    def sign_in(self, new: NewSession, *, next_url: str = "/dashboard") -> Response:
        """Set the cookie of a new session, and redirect to the page that asks for a code, or to `next_url`."""
        response = self.redirect(f"/second-factor?next={quote(next_url)}" if new.awaits_two_factor else next_url)
        self.set_cookie(response, self.context.session_cookie, new.secret, lifetime_us=SESSION_LIFETIME_US)
        if not new.awaits_two_factor:
            self.set_cookie(response, self.context.device_cookie, new.device, lifetime_us=DEVICE_LIFETIME_US)
        if self.sign_up_cookie is not None:
            self._delete_cookie(response, self.context.sign_up_cookie)
        return response

    def sign_out(self) -> Response:
        """Delete the session cookie, and redirect to the landing page."""
        response = self.redirect("/")
        self._delete_cookie(response, self.context.session_cookie)
        return response

    async def finish(self, response: Response, *, private: bool) -> Response:
        """Render the response, and add the headers that every page has."""
        if isinstance(response, Page):
            await response.render_body()
            if self._flash:
                self._delete_cookie(response, self.context.flash_cookie)
        response.headers.update(_HEADERS)
        response.headers["content-security-policy"] = _POLICY.format(form_target=self._form_target)
        is_private = private or self.session_or_none is not None or self.is_post or "set-cookie" in response.headers
        response.headers["cache-control"] = "no-store" if is_private else "no-cache"
        if not is_private:
            await self._compress(response)
        if self.context.is_secure:
            response.headers["strict-transport-security"] = "max-age=31536000"
        return response

    async def _compress(self, response: Response) -> None:
        """Compress a public page if the client accepts gzip."""
        if len(response.body) <= COMPRESSED_BYTES_MIN:
            return
        response.headers.add_vary_header("accept-encoding")
        if accepts_gzip(self.request.headers.get("accept-encoding", "")):
            response.body = await asyncio.to_thread(compress, bytes(response.body))
            response.headers["content-encoding"] = "gzip"
            response.headers["content-length"] = str(len(response.body))

    async def read_form(self) -> None:
        """Read the form of a POST. Raises `HTTPException` if it is cross-site, too large or malformed."""
        if not self.is_post:
            return
        if not is_same_origin(self.request, self.context.public_url):
            raise HTTPException(403, "This form was sent from another site. Open the page here and try again.")
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

    def _delete_cookie(self, response: Response, name: str) -> None:
        secure = self.context.is_secure
        response.delete_cookie(name, path=self.context.cookie_path, secure=secure, httponly=True, samesite="lax")

    def set_cookie(self, response: Response, name: str, value: str, *, lifetime_us: int) -> None:
        """Set a cookie that scripts can't read."""
        response.set_cookie(
            name,
            value,
            max_age=lifetime_us // MICROSECONDS_PER_SECOND,
            path=self.context.cookie_path,
            secure=self.context.is_secure,
            httponly=True,
            samesite="lax",
        )


def _is_local(path: str) -> bool:
    """Whether a redirect stays on this site. Browsers read a backslash as a slash, and drop control characters."""
    return path.startswith("/") and path.isprintable() and not path.startswith(("//", "/\\"))
