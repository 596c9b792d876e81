"""The pages to sign in with a passkey and to manage passkeys. They need JavaScript and a host name, not an IP."""

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.services.forms import SubmitOnce
from tok0n.services.passkeys import Malformed, SignInByPasskey
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.submissions import submission_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, POST, page_route

_PAGE = "/dashboard/settings/passkeys"


def passkey_routes(context: PageContext, passkeys: SignInByPasskey, submit_once: SubmitOnce) -> list[Route]:
    """Return the routes of signing in with a passkey and of managing passkeys."""
    pages = _PasskeyPages(passkeys, submit_once)
    return [
        page_route(context, "/sign-in/passkey", pages.sign_in, methods=POST),
        page_route(context, "/sign-in/passkey/options", pages.sign_in_options, methods=POST),
        page_route(context, _PAGE, pages.manage, methods=GET_POST),
        page_route(context, f"{_PAGE}/options", pages.creation_options, methods=POST),
        page_route(context, f"{_PAGE}/remove", pages.remove, methods=POST),
    ]


class _PasskeyPages:
    def __init__(self, passkeys: SignInByPasskey, submit_once: SubmitOnce) -> None:
        self._passkeys = passkeys
        self._submit_once = submit_once

    async def creation_options(self, page: PageRequest) -> Response:
        return Response(await self._passkeys.creation_options(page.session), media_type="application/json")

    async def sign_in_options(self, page: PageRequest) -> Response:
        try:
            options, secret = await self._passkeys.sign_in_options(limit_key=page.limit_key)
        except FormError as form_error:
            return JSONResponse({"message": form_error.message}, 429)
        response = Response(options, media_type="application/json")
        page.set_passkey_cookie(response, secret)
        return response

    async def manage(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._list(page)

        async def add() -> str:
            await self._passkeys.add(
                page.session,
                credential=page.form.get("credential", ""),
                name=page.form.get("passkey_name", ""),
                password=page.form.get("passkey_password", ""),
            )
            return ""

        try:
            await self._submit_once(submission_of(page, "passkey", field="passkey_name"), add)
        except FormError as form_error:
            return await self._list(page, form_error=form_error)
        return page.redirect(_PAGE, confirm="passkey-added")

    async def remove(self, page: PageRequest) -> Response:
        try:
            credential_id = bytes.fromhex(page.form.get("credential_id", ""))
        except ValueError:
            return page.redirect(_PAGE)
        await self._passkeys.remove(page.session, credential_id)
        return page.redirect(_PAGE, confirm="passkey-removed")

    async def sign_in(self, page: PageRequest) -> Response:
        try:
            new = await self._passkeys.sign_in(
                page.form.get("credential", ""),
                visitor=page.passkey_cookie,
                limit_key=page.limit_key,
                agent=page.agent,
            )
        except FormError as form_error:
            return page.render("sign_in.html", status=_status(form_error), form_error=form_error)
        return page.sign_in(new, next_url=page.next_url)

    async def _list(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        passkeys = await self._passkeys.list_passkeys(page.session)
        return page.render("passkeys.html", status=_status(form_error), passkeys=passkeys, form_error=form_error)


def _status(form_error: FormError | None) -> int | None:
    return 400 if isinstance(form_error, Malformed) else None
