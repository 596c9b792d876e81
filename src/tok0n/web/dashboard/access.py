"""The page after a password reset by email: the passkeys and API keys that remain, each with a button to remove it.

An attacker may have added them. The reset itself removes none, because the owner may still use them.
"""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.ports.users import Passkeys
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, page_route

ACCESS = "/dashboard/settings/access"


def access_routes(context: PageContext, dashboard: DashboardContext, passkeys: Passkeys) -> list[Route]:
    """Return the routes of the page after a password reset."""
    page = _AccessPage(dashboard, passkeys)
    return [page_route(context, ACCESS, page.access, methods=GET_POST)]


class _AccessPage:
    def __init__(self, dashboard: DashboardContext, passkeys: Passkeys) -> None:
        self._dashboard = dashboard
        self._passkeys = passkeys

    async def access(self, page: PageRequest) -> Response:
        if page.is_post:
            await self._remove(page)
            return page.redirect(ACCESS, confirm="access-removed")
        return page.render(
            "access.html",
            passkeys=await self._passkeys.list_for_user(page.session.user_id),
            keys=await self._dashboard.api_keys.active(page.account_id),
        )

    async def _remove(self, page: PageRequest) -> None:
        """Remove the passkey or revoke the key that the form names. Raises `NotFound`."""
        if key_id := page.form.get("key_id", ""):
            await self._dashboard.api_keys.revoke(account_id=page.account_id, key_id=key_id, actor=page.session.email)
            return
        try:
            credential_id = bytes.fromhex(page.form.get("credential_id", ""))
        except ValueError:
            return
        session = page.session
        await self._passkeys.remove(user_id=session.user_id, credential_id=credential_id, session_digest=session.digest)
