"""The settings, templates and cookie names that all pages share."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import jinja2
from starlette.requests import Request

from tok0n.domain.client_ip import ClientAddresses
from tok0n.services.forms import new_form_id
from tok0n.services.sign_in import SignIn
from tok0n.web.rendering import filters
from tok0n.web.rendering.assets import Assets
from tok0n.web.rendering.brand import Brand


class PageContext:
    """The settings, templates and cookie names that all pages share. One per process."""

    def __init__(
        self,
        *,
        public_url: str,
        sign_in: SignIn,
        assets: Assets,
        has_passkeys: bool,
        has_mail: bool,
        sells_packs: bool,
        trusted_proxies: Sequence[str],
        brand: Brand,
    ) -> None:
        self.public_url = public_url
        self.base_url = f"{public_url}/v1"
        self.sign_in = sign_in
        self.assets = assets
        self.brand = brand
        self.has_passkeys = has_passkeys
        self.has_mail = has_mail
        self.sells_packs = sells_packs
        self.is_secure = public_url.startswith("https://")
        self.prefix = urlsplit(public_url).path
        self.origin = public_url.removesuffix(self.prefix)
        self.cookie_path = self.prefix or "/"
        self.session_cookie = self._cookie_name("tok0n")
        self.passkey_cookie = self._cookie_name("tok0n-passkey")
        self.sign_up_cookie = self._cookie_name("tok0n-sign-up")
        self.device_cookie = self._cookie_name("tok0n-device")
        self.secrets_cookie = self._cookie_name("tok0n-secrets")
        self.flash_cookie = self._cookie_name("tok0n-flash")
        self.client_addresses = ClientAddresses(trusted_proxies)
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tok0n.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(filters.FILTERS)
        self._templates.globals.update(
            asset=assets.url, has_htmx=assets.has_htmx, brand=brand, with_query=with_query, zip=zip
        )
        self._templates.globals.update(new_form_id=new_form_id, prefix=self.prefix)

    def limit_key(self, request: Request) -> str:
        """Return the client that limits count by: its IPv4 address, or the /64 network of its IPv6 address."""
        peer = "" if request.client is None else request.client.host
        return self.client_addresses.limit_key(peer, request.headers.getlist("x-forwarded-for"))

    def client_ip(self, request: Request) -> str:
        """Return the client IP of a request."""
        peer = "" if request.client is None else request.client.host
        return self.client_addresses.client(peer, request.headers.getlist("x-forwarded-for"))

    def link(self, path: str, query: Mapping[str, str]) -> str:
        """Return the path with prefix and query, to which more query parameters can be appended."""
        return f"{self.prefix}{path}?{urlencode(query)}&" if query else f"{self.prefix}{path}?"

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """Render a template."""
        return self._templates.get_template(template).render(context)

    def _cookie_name(self, name: str) -> str:
        """Return a cookie name with its security prefix. Browsers accept `__Host-` only with `Path=/`."""
        if not self.is_secure:
            return name
        return f"__Secure-{name}" if self.prefix else f"__Host-{name}"


def with_query(query: Mapping[str, str], **changes: str | int | None) -> str:
    """Return a query string with some parameters changed. None or an empty string removes one."""
    merged = {**query, **{name: "" if value is None else str(value) for name, value in changes.items()}}
    return "?" + urlencode({name: value for name, value in merged.items() if value})
