"""The settings of an account: profile, sign-in, notices, billing details, export, and closing it."""

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import STANDARD
from tok0n.domain.notices import BALANCE_ALERTS_MAX, OPTIONAL_KINDS, BalanceAlert, NoticeKind
from tok0n.domain.users import LinkPurpose
from tok0n.services.billing import AccountBilling
from tok0n.services.export import AccountExport, RunningExport
from tok0n.services.passwords import FormError
from tok0n.services.profile import time_zones
from tok0n.web.dashboard.billing_form import billing_fields, save_billing
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.invalid_links import invalid_link_page, is_invalid_link
from tok0n.web.dashboard.submissions import form_error_of, parse_whole_number, submission_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, POST, page_route

_SETTINGS = "/dashboard/settings"
EMPTY_ALERT_ROWS = 1
"""How many empty rows for further alerts the form has."""

SHOWN_SESSIONS_MAX = 4
"""How many sessions are visible at once: the current one, then those that were used last."""

_NOTICE_KINDS = {
    NoticeKind.LOW_BALANCE: ("Low balance", "A balance falls below one of your alerts."),
    NoticeKind.BUDGET: ("Budgets", "An API key has used 80% or 100% of a budget."),
    NoticeKind.PURCHASE: ("Purchases", "A payment succeeds, with the receipt."),
    NoticeKind.SIGN_IN: ("New sign-ins", "Someone signs in to your account in a new browser."),
    NoticeKind.API_KEY: ("New API keys", "An API key is created or rotated."),
}
"""The kinds that a user can turn off: a title, and when an email is sent."""


def settings_routes(
    context: PageContext, dashboard: DashboardContext, export: AccountExport, billing: AccountBilling
) -> list[Route]:
    """Return the routes of the account's settings."""
    pages = _SettingsPages(dashboard, export, billing)
    return [
        page_route(context, _SETTINGS, pages.settings, methods=GET_POST),
        page_route(context, f"{_SETTINGS}/export", pages.export, methods=POST),
        page_route(context, f"{_SETTINGS}/close", pages.close, methods=GET_POST, needs_open_account=True),
        page_route(context, "/new-address", pages.new_address, methods=GET_POST),
    ]


class _SettingsPages:
    def __init__(self, dashboard: DashboardContext, export: AccountExport, billing: AccountBilling) -> None:
        self._dashboard = dashboard
        self._export = export
        self._billing = billing
        self._forms = {
            "time_zone": ("profile", self._save_time_zone),
            "threshold": ("alerts", self._save_alerts),
            "notices": ("notices", self._save_notices),
            "billing": ("billing", self._save_billing),
            "password": ("password", self._change_password),
            "email": ("profile", self._request_email_change),
            "session": ("sessions", self._end_session),
            "sessions": ("sessions", self._end_other_sessions),
        }
        """The section of the page and the method of each form, by the form's `change`."""

    async def settings(self, page: PageRequest) -> Response:
        form = self._forms.get(page.form.get("change", ""))
        if form is None:
            return await self._show(page)
        section, save = form
        try:
            confirmation = await save(page)
        except FormError as form_error:
            return await self._show(page, form_error=form_error)
        return page.redirect(f"{_SETTINGS}#{section}", confirm=confirmation)

    async def export(self, page: PageRequest) -> Response:
        try:
            pieces = await self._export.begin(page.session)
        except FormError as form_error:
            return await self._show(page, form_error=form_error)
        return _ExportResponse(pieces)

    async def close(self, page: PageRequest) -> Response:
        form_error = None
        if page.is_post:
            try:
                await self._dashboard.profile.close_account(page.session, password=page.form.get("close_password", ""))
            except FormError as error:
                form_error = error
            else:
                return page.sign_out()
        balances = await self._dashboard.history.wallets(page.account_id)
        return page.render(
            "close.html",
            wallets=[wallet for wallet in self._dashboard.token_classes.wallets(balances) if wallet.balance.posted],
            classes=self._dashboard.class_titles_of(balances),
            form_error=form_error,
        )

    async def new_address(self, page: PageRequest) -> Response:
        if not page.is_post:
            if await is_invalid_link(page, LinkPurpose.EMAIL):
                return invalid_link_page(page, LinkPurpose.EMAIL)
            return page.render("new_address.html")
        email = await self._dashboard.profile.change_email(page.link, session=page.session_or_none)
        if email is None:
            return invalid_link_page(page, LinkPurpose.EMAIL)
        return page.message("Email changed", f"Sign in as {email} from now on.")

    async def _show(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        user = await self._dashboard.users.get(page.session.user_id)
        alerts = await self._dashboard.low_balances.alerts(page.account_id)
        is_alert_form = form_error is not None and page.form.get("change") == "threshold"
        rows = (
            _alert_fields(page)
            if is_alert_form
            else [(str(alert.threshold_tokens), alert.token_class) for alert in alerts]
        )
        billing = await billing_fields(page, self._billing)
        sessions = await self._dashboard.sessions.list_for_user(user.id, now_us=self._dashboard.clock.now_us())
        return page.render(
            "settings.html",
            user=user,
            billing=billing,
            has_billing=page.context.sells_packs or any(billing.values()),
            alerts=(rows + [("", STANDARD)] * BALANCE_ALERTS_MAX)[
                : min(BALANCE_ALERTS_MAX, len(rows) + EMPTY_ALERT_ROWS)
            ],
            notice_kinds=_NOTICE_KINDS,
            enabled_kinds=await self._dashboard.notice_preferences.enabled_kinds(page.account_id),
            sessions=sorted(sessions, key=lambda session: session.digest != page.session.digest),
            sessions_max=SHOWN_SESSIONS_MAX,
            recovery_codes=await self._dashboard.users.recovery_codes_left(user.id),
            classes=await self._dashboard.class_titles(page),
            zones=sorted(time_zones()),
            form_error=form_error,
        )

    async def _save_time_zone(self, page: PageRequest) -> str:
        await self._dashboard.profile.set_time_zone(page.session, page.form.get("time_zone", ""))
        return "time-zone-saved"

    async def _save_alerts(self, page: PageRequest) -> str:
        alerts = []
        for text, token_class in _alert_fields(page):
            tokens = parse_whole_number(text, field="threshold")
            if tokens is not None:
                alerts.append(BalanceAlert(threshold_tokens=tokens, token_class=token_class))
        try:
            await self._dashboard.low_balances.set_alerts(page.account_id, alerts)
        except InvalidRequest as error:
            raise form_error_of(error, field="threshold") from None
        return "alerts-saved"

    async def _save_notices(self, page: PageRequest) -> str:
        selected = page.choices.get("kind", [])
        kinds = {kind for kind in OPTIONAL_KINDS if kind in selected}
        await self._dashboard.notice_preferences.set_enabled_kinds(page.account_id, kinds)
        return "notices-saved"

    async def _save_billing(self, page: PageRequest) -> str:
        await save_billing(page, self._billing)
        return "billing-saved"

    async def _change_password(self, page: PageRequest) -> str:
        await self._dashboard.profile.change_password(
            page.session,
            current=page.form.get("current", ""),
            password=page.form.get("password", ""),
        )
        return "password-changed"

    async def _request_email_change(self, page: PageRequest) -> str:
        async def request() -> str:
            return await self._dashboard.profile.request_email_change(
                page.session,
                password=page.form.get("email_password", ""),
                email=page.form.get("email", ""),
            )

        await self._dashboard.submit_once(submission_of(page, "email", field="email"), request)
        return "email-requested" if page.context.has_mail else "email-requested-unsent"

    async def _end_session(self, page: PageRequest) -> str:
        await page.context.sign_in.end_session(page.session, page.form.get("session", ""))
        return "session-ended"

    async def _end_other_sessions(self, page: PageRequest) -> str:
        await page.context.sign_in.sign_out_elsewhere(page.session)
        return "sessions-ended"


class _ExportResponse(StreamingResponse):
    """Streams an export, and ends it when the client has it or has left."""

    def __init__(self, pieces: RunningExport) -> None:
        headers = {"content-disposition": 'attachment; filename="tok0n-account.zip"'}
        super().__init__(pieces, media_type="application/zip", headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()


def _alert_fields(page: PageRequest) -> list[tuple[str, str]]:
    """Return the balances and token classes of the alerts that the user entered, without empty rows."""
    texts = page.choices.get("threshold", [])
    token_classes = page.choices.get("threshold_class", [STANDARD] * len(texts))
    return [(text, token_class) for text, token_class in zip(texts, token_classes, strict=False) if text.strip()]
