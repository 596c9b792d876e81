"""Two-factor authentication: turn it on, save the recovery codes, and turn it off."""

from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.users import User
from tok0n.services import two_factor
from tok0n.services.forms import DONE
from tok0n.services.issued_secrets import find_secret
from tok0n.services.passwords import FormError
from tok0n.web.dashboard import issued_secrets
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.issued_secrets import TWO_FACTOR, IssuedSecret
from tok0n.web.dashboard.submissions import expired_form, submission_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, page_route

_SETTINGS = "/dashboard/settings"
_SWITCH = f"{_SETTINGS}/second-factor"
_RECOVERY_CODES = f"{_SETTINGS}/recovery-codes"


def two_factor_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of two-factor authentication in the settings."""
    pages = _TwoFactorPages(dashboard)
    return [
        page_route(context, _SWITCH, pages.switch, methods=GET_POST),
        page_route(context, _RECOVERY_CODES, pages.recovery_codes),
    ]


class _TwoFactorPages:
    def __init__(self, dashboard: DashboardContext) -> None:
        self._dashboard = dashboard

    async def switch(self, page: PageRequest) -> Response:
        """Turn two-factor authentication on if it is off, and off if it is on."""
        is_end = page.form.get("change") == "end" if page.is_post else (await self._user(page)).totp_secret is not None
        if is_end:
            return await self._end(page)
        secret = page.form.get("secret", "")
        if not two_factor.is_secret(secret):
            secret = two_factor.new_secret()
        form_error = None
        if page.is_post:
            try:
                return await self._begin(page, secret)
            except FormError as error:
                form_error = error
        import segno  # noqa: PLC0415  few requests need it

        uri = two_factor.provisioning_uri(secret, email=page.session.email, site=page.context.brand.name)
        qr = segno.make(uri, error="m").svg_inline(scale=4, border=2, omitsize=True)
        return page.render(
            "two_factor_on.html",
            secret=secret,
            qr=Markup(qr),  # noqa: S704  segno's own
            form_error=form_error,
        )

    async def recovery_codes(self, page: PageRequest) -> Response:
        """Show the recovery codes that this browser created, which a reload or *Back* shows again for 10 minutes."""
        user = await self._user(page)
        if user.totp_secret is None:
            action = (_SWITCH, "Turn on")
            return page.message("Two-factor authentication is off", "Turn it on to get recovery codes.", action=action)
        remembered = issued_secrets.find(page, user.id)
        forms, clock = self._dashboard.forms, self._dashboard.clock
        submission = None if remembered is None else remembered.submission(page)
        text = await find_secret(forms, clock, submission, result=DONE)
        secret, *codes = ("",) if text is None else text.split("\n")
        is_current = secret == user.totp_secret  # it may have been turned off and on again in another browser
        return page.render("recovery_codes.html", codes=codes if is_current else None)

    async def _begin(self, page: PageRequest, secret: str) -> Response:
        """Turn it on, and redirect to the recovery codes, so that a reload or *Back* submits nothing."""
        password, code = page.form.get("password", ""), page.form.get("code", "")

        async def begin() -> str:
            codes = await self._dashboard.profile.turn_on_totp(
                page.session, password=password, secret=secret, code=code
            )
            return "\n".join([secret, *codes])

        submission = submission_of(page, TWO_FACTOR, field="code")
        await self._dashboard.submit_once(submission, begin)
        user = await self._user(page)
        if user.totp_secret != secret:  # two-factor authentication was turned off since the first submission
            raise expired_form("code")
        response = page.redirect(_RECOVERY_CODES)
        issued_secrets.remember(page, response, IssuedSecret.from_submission(submission, owner_id=user.id))
        return response

    async def _end(self, page: PageRequest) -> Response:
        if not page.is_post:
            return page.render("two_factor_off.html")
        try:
            await self._dashboard.profile.turn_off_totp(page.session, password=page.form.get("password", ""))
        except FormError as form_error:
            return page.render("two_factor_off.html", form_error=form_error)
        return page.redirect(_SETTINGS, confirm="two-factor-off")

    async def _user(self, page: PageRequest) -> User:
        return await self._dashboard.users.get(page.session.user_id)
