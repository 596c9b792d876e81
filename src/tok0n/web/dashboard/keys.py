"""The pages of API keys: create, list, rename and revoke them."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import ApiKey
from tok0n.domain.errors import InvalidRequest, LimitReached
from tok0n.services.api_keys import KeyDraft
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.submissions import form_error_of, submission_of, whole_number
from tok0n.web.rendering.endpoints import GET_POST, page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.snippets import snippets_of

ENDED_ROWS_MAX = 100


def key_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of API keys."""
    pages = _KeyPages(dashboard)
    return [
        page_route(context, "/dashboard/keys", pages.keys, methods=GET_POST, needs_open_account=True),
        page_route(context, "/dashboard/keys/{key}/rename", pages.rename, methods=GET_POST, needs_open_account=True),
        page_route(context, "/dashboard/keys/{key}/revoke", pages.revoke, methods=GET_POST),
    ]


class _KeyPages:
    def __init__(self, dashboard: DashboardContext) -> None:
        self._dashboard = dashboard
        self._api_keys = dashboard.api_keys

    async def keys(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._list(page)
        try:
            submission = submission_of(page, "api_key", field="name")
            issued = await self._api_keys.create(page.account_id, _draft(page), submission=submission)
        except InvalidRequest as error:
            return await self._list(page, form_error=form_error_of(error))
        except LimitReached as limit:
            return await self._list(page, form_error=FormError(limit.message, field="name"))
        catalogue = self._dashboard.catalogue
        snippets = snippets_of(catalogue, page.context.base_url, allowed=issued.key.limits.models)
        return page.render(
            "key_made.html", key=issued.key, issued=issued, snippets=snippets, has_endpoints=catalogue.has_endpoints
        )

    async def rename(self, page: PageRequest) -> Response:
        key = await self._key(page)
        if not page.is_post:
            return page.render("key_rename.html", key=key)
        try:
            await self._api_keys.rename(account_id=page.account_id, key_id=key.id, name=page.form.get("name", ""))
        except InvalidRequest as error:
            return page.render("key_rename.html", key=key, form_error=form_error_of(error))
        return page.redirect("/dashboard/keys")

    async def revoke(self, page: PageRequest) -> Response:
        key = await self._key(page)
        if not page.is_post:
            return page.render("key_revoke.html", key=key)
        await self._api_keys.revoke(account_id=page.account_id, key_id=key.id)
        return page.redirect("/dashboard/keys")

    async def _list(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        keys = await self._api_keys.of(page.account_id)
        now_us = self._dashboard.clock.now_us()
        return page.render(
            "keys.html",
            working=[key for key in reversed(keys) if key.works(now_us)],
            ended=[key for key in reversed(keys) if not key.works(now_us)][:ENDED_ROWS_MAX],
            spent=await self._dashboard.history.key_spent(page.account_id),
            models=self._dashboard.catalogue.listed(),
            selected_models=page.choices.get("models", []),
            form_error=form_error,
        )

    async def _key(self, page: PageRequest) -> ApiKey:
        return await self._api_keys.get(account_id=page.account_id, key_id=page.request.path_params["key"])


def _draft(page: PageRequest) -> KeyDraft:
    """Return the key that the form describes. Raises `FormError`."""
    return KeyDraft(
        name=page.form.get("name", ""),
        days=whole_number(page, "days"),
        budget=whole_number(page, "budget"),
        models=tuple(page.choices.get("models", [])),
    )
