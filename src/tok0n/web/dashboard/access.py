"""The page after a password reset by email: the passkeys and API keys that remain, each with a button to remove it.

Whoever stole the account may have added them. A reset leaves them alone, because they may be in use.
"""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.ports.users import Passkeys
from tok0n.web.dashboard.dashboard_ports import DashboardPorts
from tok0n.web.pages.visit import Site, Visit

ACCESS = "/dashboard/settings/access"


def access_routes(site: Site, ports: DashboardPorts, passkeys: Passkeys) -> list[Route]:
    """The routes."""
    page = _AccessPage(ports, passkeys)
    return [Route(ACCESS, site.page(page.access, private=True), methods=["GET", "POST"])]


class _AccessPage:
    def __init__(self, ports: DashboardPorts, passkeys: Passkeys) -> None:
        self._ports = ports
        self._passkeys = passkeys

    async def access(self, visit: Visit) -> Response:
        if visit.is_post:
            await self._remove(visit)
            return visit.redirect(ACCESS)
        now_us = self._ports.clock.now_us()
        return visit.page(
            "access.html",
            passkeys=await self._passkeys.of(visit.user.user_id),
            keys=[key for key in await self._ports.keys(visit) if key.works(now_us)],
        )

    async def _remove(self, visit: Visit) -> None:
        """Remove the passkey or revoke the key that the form names. Raises `NotFound`."""
        if key_id := visit.form.get("key_id", ""):
            key = await self._ports.history.key(visit.account_id, key_id)
            await self._ports.accounts.revoke_key(key_id=key.id, now_us=self._ports.clock.now_us())
            return
        try:
            credential_id = bytes.fromhex(visit.form.get("credential_id", ""))
        except ValueError:
            return
        user = visit.user
        await self._passkeys.remove(user_id=user.user_id, credential_id=credential_id, made_in=user.digest)
