"""The page of an emailed link that no longer works: what happened, and how to get a new link."""

from starlette.responses import Response

from tok0n.domain.users import LinkPurpose
from tok0n.web.rendering.page_request import PageRequest

_TITLE = "This link no longer works"
_WHY = "It was already used, has expired, or was replaced by a newer one."
_SIGN_IN = ("/sign-in", "Sign in")
_NEXT = {
    LinkPurpose.VERIFY: ("Sign in to continue. If your email isn't confirmed yet, you'll get a new link.", _SIGN_IN),
    LinkPurpose.RESET: ("Request a new link to choose a password.", ("/reset-password", "Request a new link")),
    LinkPurpose.INVITE: ("If you already have an account, sign in. Contact support to get a new invitation.", _SIGN_IN),
    LinkPurpose.EMAIL: (
        "It may also be for an address that belongs to another account. Request a new link in your settings.",
        ("/dashboard/settings", "Go to settings"),
    ),
    LinkPurpose.SET_UP: ("If the account exists, sign in. Otherwise, restart the server to get a new link.", _SIGN_IN),
}
_WITHOUT_EMAIL = {
    LinkPurpose.VERIFY: ("Contact support to get a new link. If your email is confirmed, sign in.", _SIGN_IN),
    LinkPurpose.RESET: ("Contact support to get a new link.", _SIGN_IN),
}
"""The links that support passes on, where no email can be sent."""


async def is_invalid_link(page: PageRequest, purpose: LinkPurpose) -> bool:
    """Whether the link that opened the page doesn't work."""
    return not await page.context.sign_in.is_valid(page.link, purpose)


def invalid_link_page(page: PageRequest, purpose: LinkPurpose) -> Response:
    """Return the page of a link that no longer works."""
    if page.session_or_none is not None and purpose is not LinkPurpose.EMAIL:
        return page.message(_TITLE, f"{_WHY} You're signed in.", status=410)
    advice, action = _NEXT[purpose]
    if not page.context.has_mail:
        advice, action = _WITHOUT_EMAIL.get(purpose, (advice, action))
    return page.message(_TITLE, f"{_WHY} {advice}", status=410, action=action)
