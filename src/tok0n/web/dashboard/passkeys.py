"""Signing in with a passkey, and keeping one's passkeys. Needs script and a host name: browsers have none for an IP."""

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.services.forms import SubmitOnce
from tok0n.services.passkeys import Malformed, SignInByPasskey
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.submissions import submission_of
from tok0n.web.pages.visit import Site, Visit

_PAGE = "/dashboard/settings/passkeys"


def passkey_routes(site: Site, passkeys: SignInByPasskey, submit_once: SubmitOnce) -> list[Route]:
    """The routes."""
    pages = _PasskeyPages(passkeys, submit_once)
    post = ["POST"]
    return [
        Route("/sign-in/passkey", site.page(pages.sign_in), methods=post),
        Route("/sign-in/passkey/options", site.page(pages.options_to_use), methods=post),
        Route(_PAGE, site.page(pages.manage, private=True), methods=["GET", *post]),
        Route(f"{_PAGE}/options", site.page(pages.options_to_make, private=True), methods=post),
        Route(f"{_PAGE}/remove", site.page(pages.remove, private=True), methods=post),
    ]


class _PasskeyPages:
    def __init__(self, passkeys: SignInByPasskey, submit_once: SubmitOnce) -> None:
        self._passkeys = passkeys
        self._submit_once = submit_once

    async def options_to_make(self, visit: Visit) -> Response:
        return Response(await self._passkeys.ask_to_make(visit.user), media_type="application/json")

    async def options_to_use(self, visit: Visit) -> Response:
        try:
            options, secret = await self._passkeys.ask_to_use(address=visit.limit_key)
        except FormError as form_error:
            return JSONResponse({"message": form_error.message}, 429)
        response = Response(options, media_type="application/json")
        visit.set_passkey_cookie(response, secret)
        return response

    async def manage(self, visit: Visit) -> Response:
        if not visit.is_post:
            return await self._list(visit)

        async def add() -> str:
            await self._passkeys.add(
                visit.user,
                credential=visit.form.get("credential", ""),
                name=visit.form.get("passkey_name", ""),
                password=visit.form.get("passkey_password", ""),
            )
            return ""

        try:
            await self._submit_once(submission_of(visit, "passkey", field="passkey_name"), add)
        except FormError as form_error:
            return await self._list(visit, form_error=form_error)
        return visit.redirect(_PAGE)

    async def remove(self, visit: Visit) -> Response:
        try:
            credential_id = bytes.fromhex(visit.form.get("credential_id", ""))
        except ValueError:
            return visit.redirect(_PAGE)
        await self._passkeys.remove(visit.user, credential_id)
        return visit.redirect(_PAGE)

    async def sign_in(self, visit: Visit) -> Response:
        goal = visit.form.get("next", "") or "/dashboard"
        try:
            new = await self._passkeys.sign_in(
                visit.form.get("credential", ""),
                visitor=visit.passkey_cookie,
                address=visit.limit_key,
                agent=visit.agent,
            )
        except FormError as form_error:
            return visit.page("sign_in.html", status=_status(form_error), goal=goal, form_error=form_error)
        return visit.sign_in(new, goal=goal)

    async def _list(self, visit: Visit, *, form_error: FormError | None = None) -> Response:
        known = await self._passkeys.of(visit.user)
        status = 200 if form_error is None else _status(form_error)
        return visit.page("passkeys.html", status=status, passkeys=known, form_error=form_error)


def _status(form_error: FormError) -> int:
    return 400 if isinstance(form_error, Malformed) else 422
