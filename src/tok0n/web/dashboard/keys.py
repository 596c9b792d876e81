"""The pages of API keys: create, list, edit, rotate, disable, enable and revoke them."""

from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import ApiKey
from tok0n.domain.budgets import PERIOD_WORDS
from tok0n.domain.endpoints import BY_NAME
from tok0n.domain.errors import InvalidRequest, LimitReached
from tok0n.domain.forms import Submission
from tok0n.domain.history import BudgetUse
from tok0n.domain.key_edits import KeyEdit, differences
from tok0n.services.api_keys import IssuedKey
from tok0n.services.issued_secrets import find_secret
from tok0n.services.key_rules import OVERLAP_DAYS_MAX
from tok0n.services.passwords import FormError
from tok0n.web.dashboard import issued_secrets
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.first_steps import issued_key_context
from tok0n.web.dashboard.issued_secrets import CREATE, ROTATE, IssuedSecret
from tok0n.web.dashboard.key_forms import KeyFields, draft_of, edit_of, fields_of_form, fields_of_key
from tok0n.web.dashboard.submissions import form_error_of, submission_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, POST, page_route

ENDED_ROWS_MAX = 100
LISTED_BUDGETS_MAX = 2
"""How many budgets of each key the list shows: those that are used up most."""

_DAY_DIGITS_MAX = 4


class KeySpend(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of a key were charged, ever and this month. None if their tokens have no price."""

    tokens: int = 0
    usd_micros: int | None = None
    month_tokens: int = 0
    month_usd_micros: int | None = None


NO_SPEND = KeySpend()


def key_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of API keys."""
    pages = _KeyPages(dashboard)
    key = "/dashboard/keys/{key}"
    return [
        page_route(context, "/dashboard/keys", pages.keys, methods=GET_POST, needs_open_account=True),
        page_route(context, key, pages.key, methods=GET_POST, needs_open_account=True),
        page_route(context, f"{key}/enabled", pages.enabled, methods=POST, needs_open_account=True),
        page_route(context, f"{key}/secret", pages.secret),
        page_route(context, f"{key}/rotate", pages.rotate, methods=POST, needs_open_account=True),
        page_route(context, f"{key}/revoke", pages.revoke, methods=GET_POST),
    ]


class _KeyPages:
    def __init__(self, dashboard: DashboardContext) -> None:
        self._dashboard = dashboard
        self._api_keys = dashboard.api_keys

    async def keys(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._list(page)
        session = page.session
        try:
            submission = submission_of(page, CREATE, field="name")
            issued = await self._api_keys.create(
                page.account_id,
                draft_of(page),
                submission=submission,
                actor=session.email,
                time_zone=session.time_zone,
            )
        except InvalidRequest as error:
            return await self._list(page, form_error=form_error_of(error))
        except LimitReached as limit:
            return await self._list(page, form_error=FormError(limit.message, field="name"))
        return self._issued(page, issued, submission)

    async def key(self, page: PageRequest) -> Response:
        key = await self._key(page)
        if not page.is_post:
            return await self._page(page, key)
        try:
            edit = edit_of(page, key)
            return await self._edit(page, key, edit)
        except InvalidRequest as error:
            return await self._page(page, key, form_error=form_error_of(error))
        except LimitReached as limit:
            return await self._page(page, key, form_error=FormError(limit.message, field="expires"))

    async def enabled(self, page: PageRequest) -> Response:
        key = await self._key(page)
        try:
            return await self._edit(page, key, KeyEdit(is_enabled=page.form.get("enabled") == "1"))
        except InvalidRequest as error:
            return await self._page(page, key, form_error=form_error_of(error))

    async def rotate(self, page: PageRequest) -> Response:
        key = await self._key(page)
        try:
            submission = submission_of(page, ROTATE, field="overlap_days")
            issued = await self._api_keys.rotate(
                account_id=page.account_id,
                key_id=key.id,
                overlap_days=_overlap_days(page),
                actor=page.session.email,
                submission=submission,
            )
        except InvalidRequest as error:
            return await self._page(page, key, form_error=form_error_of(error))
        except LimitReached as limit:
            return await self._page(page, key, form_error=FormError(limit.message, field="overlap_days"))
        return self._issued(page, issued, submission)

    async def revoke(self, page: PageRequest) -> Response:
        key = await self._key(page)
        if not page.is_post:
            return page.render("key_revoke.html", key=key)
        await self._api_keys.revoke(account_id=page.account_id, key_id=key.id, actor=page.session.email)
        return page.redirect("/dashboard/keys", confirm="key-revoked")

    async def _edit(self, page: PageRequest, key: ApiKey, edit: KeyEdit) -> Response:
        after = await self._api_keys.edit(
            account_id=page.account_id,
            key_id=key.id,
            edit=edit,
            actor=page.session.email,
            time_zone=page.session.time_zone,
        )
        return page.redirect(f"/dashboard/keys/{key.id}", confirm=_confirmation(key, after))

    async def secret(self, page: PageRequest) -> Response:
        """Show a new secret, which a reload or *Back* shows again for 10 minutes."""
        key = await self._key(page)
        remembered = issued_secrets.find(page, key.id)
        submission = None if remembered is None else remembered.submission(page)
        secret = await find_secret(self._dashboard.forms, self._dashboard.clock, submission, result=key.id)
        issued = IssuedKey(key=key, secret=secret)
        return page.render(
            "key_made.html",
            key=key,
            issued=issued,
            is_rotated=remembered is not None and remembered.form == ROTATE,
            is_repetition=page.query("again") == "1",
            **await issued_key_context(self._dashboard, page, issued),
        )

    def _issued(self, page: PageRequest, issued: IssuedKey, submission: Submission) -> Response:
        """Redirect to the page of the secret, so that a reload or *Back* submits nothing."""
        response = page.redirect(f"/dashboard/keys/{issued.key.id}/secret{'?again=1' if issued.is_repetition else ''}")
        issued_secrets.remember(page, response, IssuedSecret.from_submission(submission, owner_id=issued.key.id))
        return response

    async def _list(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        keys = await self._api_keys.list_for_account(page.account_id)
        now_us = self._dashboard.clock.now_us()
        ended = [key for key in reversed(keys) if key.is_revoked or key.has_expired(now_us)]
        budget_uses = await self._dashboard.history.all_budget_uses(page.account_id, now_us=now_us)
        return page.render(
            "keys.html",
            current=[key for key in reversed(keys) if key not in ended],
            ended=ended[:ENDED_ROWS_MAX],
            now_us=now_us,
            spend=await self._spend_by_key(page),
            no_spend=NO_SPEND,
            uses={key_id: _most_used_first(uses) for key_id, uses in budget_uses.items()},
            budgets_max=LISTED_BUDGETS_MAX,
            fields=fields_of_form(page) if page.is_post else KeyFields(),
            form_error=form_error,
            **self._choices(),
        )

    async def _page(self, page: PageRequest, key: ApiKey, *, form_error: FormError | None = None) -> Response:
        history, now_us = self._dashboard.history, self._dashboard.clock.now_us()
        is_edit = form_error is not None and "name" in page.form
        fields, choices = fields_of_form(page) if is_edit else fields_of_key(key, page), self._choices(key)
        return page.render(
            "key.html",
            key=key,
            now_us=now_us,
            spend=(await self._spend_by_key(page)).get(key.id, NO_SPEND),
            uses=await history.budget_uses(page.account_id, key.id, now_us=now_us),
            fields=fields,
            overlap_days_max=OVERLAP_DAYS_MAX,
            form_error=form_error,
            has_endpoint_choice=len(choices["endpoints"]) > 1 or bool(fields.endpoints),
            **choices,
        )

    async def _spend_by_key(self, page: PageRequest) -> dict[str, KeySpend]:
        """Return what each key of the account has spent."""
        costs = self._dashboard.costs
        ever, month = await costs.key_uses(page.account_id, since_us=costs.month_start_us(page.session.time_zone))
        return {
            id_: KeySpend(
                tokens=tokens,
                usd_micros=None if ever.usd_micros is None else ever.usd_micros.get(id_, 0),
                month_tokens=month.tokens.get(id_, 0),
                month_usd_micros=None if month.usd_micros is None else month.usd_micros.get(id_, 0),
            )
            for id_, tokens in ever.tokens.items()
        }

    def _choices(self, key: ApiKey | None = None) -> dict[str, Any]:
        """Return the models, endpoints and token classes to choose from. Those of a key stay, even if retired."""
        catalogue = self._dashboard.catalogue
        current = () if key is None else key.limits.models or ()
        listed = [model.id for model in catalogue.listed()]
        declared = {name for model in catalogue.declared_models() for name in model.endpoints}
        endpoints = declared.union(() if key is None else key.limits.endpoints or ())
        budgets = () if key is None else key.limits.budgets
        of_budgets = [budget.token_class for budget in budgets if budget.token_class]
        return {
            "models": listed + [model for model in current if model not in listed],
            "endpoints": [name for name in BY_NAME if name in endpoints],
            "token_classes": list(dict.fromkeys([*self._api_keys.token_classes, *of_budgets])),
            "periods": PERIOD_WORDS,
            "requests_per_minute_max": self._api_keys.requests_per_minute_max,
        }

    async def _key(self, page: PageRequest) -> ApiKey:
        return await self._api_keys.get(account_id=page.account_id, key_id=page.request.path_params["key"])


def _most_used_first(uses: list[BudgetUse]) -> list[BudgetUse]:
    """Return the budgets of a key by the share that is used. Equal ones keep their order."""
    return sorted(uses, key=lambda use: use.spent / use.budget.tokens, reverse=True)


def _confirmation(before: ApiKey, after: ApiKey) -> str:
    """Return the code of the confirmation of an edit."""
    changed, _ = differences(before, after)
    if changed.keys() == {"name"}:
        return "key-renamed"
    if changed.keys() == {"enabled"}:
        return "key-disabled" if after.is_disabled else "key-enabled"
    return "key-saved"


def _overlap_days(page: PageRequest) -> int:
    """Return the days in the form. Text that is not a number is -1, which no key may have."""
    text = page.form.get("overlap_days", "").strip() or "0"
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DAY_DIGITS_MAX else -1
