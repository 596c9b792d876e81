"""What the pictures show: every page of the routes, and the states of pages that a route alone doesn't show."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from support.extreme_site import QUERIES, ExtremeSite, is_private
from support.picture_accounts import TOTP_SECRET, Accounts
from tok0n.domain.errors import AccountingFailed, Overloaded, Tok0nError

NOT_PICTURED = {
    "/second-factor": "Redirects, unless a sign-in waits: the shots second-factor-code and second-factor-code-error.",
    "/dashboard/keys/{key}/first-request": "Redirects to the requests of the key: the shot key-secret shows this part.",
    "/dashboard/orders/{order}/receipt": "Redirects to the document: the shots invoice and credit-note.",
    "/dashboard/orders/{order}/documents/x": "The shots invoice and credit-note have documents that exist.",
}
"""The routes that have no picture, and why."""


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One page to take pictures of. `user` is a name in `Accounts.cookies`, or empty for a visitor.

    With `fields`, the form that has the first of them is sent with them, by the button that `button` selects. If
    `is_script`, a script sends the form, and then `awaits` appears on the same page. `failure` is raised instead of
    reading the user. If `is_foreign`, another site sends a form to the path. `is_printed` selects the print style.
    """

    name: str
    path: str
    user: str = ""
    fields: Mapping[str, str] | None = None
    button: str = ""
    is_script: bool = False
    awaits: str = "main"
    failure: Tok0nError | None = None
    is_foreign: bool = False
    is_printed: bool = False


def shots_of(site: ExtremeSite, accounts: Accounts) -> list[Shot]:
    """Return all shots."""
    shots = [
        *_pages(site),
        *_emailed_links(accounts),
        *_orders(site, accounts),
        *_newcomer(),
        *_errors(),
        *_forms(site),
    ]
    names = [shot.name for shot in shots]
    assert len(set(names)) == len(names), sorted(names)
    return shots


def _pages(site: ExtremeSite) -> Iterator[Shot]:
    for route, path in site.pages.items():
        if route not in NOT_PICTURED:
            yield Shot(name=name_of(route), path=path, user="owner" if is_private(route) else "")
    kinds = ("released", "streamed", "expired", "in-progress", "given-back", "rejected")
    for kind, request in zip(kinds, site.data.others, strict=True):
        yield Shot(name=f"receipt-{kind}", path=f"/dashboard/requests/{request}", user="owner")
    for query in QUERIES:
        yield Shot(name=name_of(query), path=query, user="owner")


def name_of(path: str) -> str:
    """Return the name of the picture of a route, or of a path with a query."""
    return re.sub(r"[^a-z0-9]+", "-", path).strip("-") or "landing"


def _emailed_links(accounts: Accounts) -> Iterator[Shot]:
    for name in ("verify", "new-password", "invitation", "set-up", "new-address"):
        yield Shot(name=f"{name}-link", path=accounts.paths[name])
    weak = {"password": "short"}
    yield Shot(name="verify-error", path=accounts.paths["verify"], fields={"password": "another password"})
    yield Shot(name="new-password-error", path=accounts.paths["new-password"], fields=weak)
    yield Shot(name="set-up-error", path=accounts.paths["set-up"], fields={"email": "nobody", **weak})


def _orders(site: ExtremeSite, accounts: Accounts) -> Iterator[Shot]:
    for name, path in accounts.paths.items():
        if name.startswith("order-") or name in {"invoice", "credit-note"}:
            yield Shot(name=name, path=path, user="buyer")
    yield Shot(name="invoice-printed", path=accounts.paths["invoice"], user="buyer", is_printed=True)
    receipt = f"/dashboard/requests/{site.data.request}"
    yield Shot(name="receipt-printed", path=receipt, user="owner", is_printed=True)
    for name in ("orders", "statement", "buy"):
        yield Shot(name=f"buyer-{name}", path=f"/dashboard/{name}", user="buyer")
    yield Shot(name="buyer-overview", path="/dashboard", user="buyer")


def _newcomer() -> Iterator[Shot]:
    """The pages of an account that has nothing, and of a suspended one."""
    yield Shot(name="empty-overview", path="/dashboard", user="newcomer")
    for name in ("keys", "activity", "requests", "usage", "statement", "orders", "playground", "settings"):
        yield Shot(name=f"empty-{name}", path=f"/dashboard/{name}", user="newcomer")
    yield Shot(name="empty-search", path="/docs/search?q=xylophone")
    yield Shot(name="search", path="/docs/search?q=tokens")
    for name in ("keys", "buy"):
        yield Shot(name=f"suspended-{name}", path=f"/dashboard/{name}", user="suspended")
    yield Shot(name="suspended-overview", path="/dashboard", user="suspended")


def _errors() -> Iterator[Shot]:
    settings = "/dashboard/settings"
    yield Shot(name="visitor-no-such-page", path="/no-such-page")
    yield Shot(name="error-403", path="/sign-in", is_foreign=True)
    yield Shot(
        name="error-500",
        path=settings,
        user="newcomer",
        failure=AccountingFailed(upstream_called=False, detail="for a picture"),
    )
    yield Shot(name="error-503", path=settings, user="newcomer", failure=Overloaded(queue="pictures"))
    for page in ("requests", "usage", "statement"):
        yield Shot(name=f"{page}-filter-error", path=f"/dashboard/{page}?since=yesterday", user="newcomer")


def _forms(site: ExtremeSite) -> Iterator[Shot]:
    """Forms that were sent: with an error, or with a page as the answer.

    A form that changes something has a user of its own, so that the order of the shots doesn't matter.
    """
    yield Shot(name="sign-up-error", path="/sign-up", fields={"email": "nobody", "password": "short"})
    yield Shot(name="sign-up-sent", path="/sign-up", fields={"email": "a@example.org", "password": "plenty of rivers"})
    yield Shot(name="sign-in-error", path="/sign-in", fields={"email": "a@example.org", "password": "wrong"})
    yield Shot(name="reset-password-error", path="/reset-password", fields={"email": "nobody"})
    yield Shot(name="reset-password-sent", path="/reset-password", fields={"email": "a@example.org"})
    yield Shot(name="second-factor-code", path="/second-factor", user="waiting")
    yield Shot(name="second-factor-code-error", path="/second-factor", user="waiting", fields={"code": "000000"})
    yield from _dashboard_forms(site)


def _dashboard_forms(site: ExtremeSite) -> Iterator[Shot]:
    def form(name: str, path: str, fields: dict[str, str], *, user: str = "newcomer", button: str = "") -> Shot:
        return Shot(name=name, path=f"/dashboard/{path}", fields=fields, user=user, button=button)

    wrong = {"password": "not the password"}
    limits = {"name": "laptop", "budget_tokens": "many", "days": "soon", "networks": "here"}
    yield form("keys-error", "keys", {"name": ""})
    yield form("keys-limits-error", "keys", limits)
    yield form("key-error", f"keys/{site.data.key}", {"name": "", "networks": "here"}, user="owner")
    yield form("key-secret", "keys", {"name": "laptop"}, user="maker")
    yield form("buy-error", "buy", {"quantity-starter": "0"}, button="[name=pack][value=starter]")
    yield form("redeem-error", "buy", {"code": "NO-SUCH-CODE"})
    yield form("settings-password-error", "settings", {"current": "wrong", "password": "short"})
    yield form("settings-email-error", "settings", {"email": "nobody", "email_password": "wrong"})
    yield form("settings-alerts-error", "settings", {"threshold": "many"})
    yield form("settings-saved", "settings", {"time_zone": "Etc/UTC"}, user="maker")
    yield form("close-error", "settings/close", {"close_password": "wrong"})
    yield form("two-factor-error", "settings/second-factor", {"code": "000000", "secret": TOTP_SECRET, **wrong})
    yield form("two-factor-end", "settings/second-factor", wrong, user="secured")
    sent = form("playground-error", "playground", {"user": "", "limit": "0"}, user="buyer")
    yield msgspec.structs.replace(sent, is_script=True, awaits=".notice.bad, .error")
    sent = form("playground-answer", "playground", {"user": "Hello"}, user="player", button="[name=send]")
    yield msgspec.structs.replace(sent, is_script=True, awaits="article .bill")
