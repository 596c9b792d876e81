"""API keys: made and shown once, listed, renamed, revoked."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.errors import LimitReached, OperatorError
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.account_locks import AccountLocks
from tok0n.services.issue_key import check_name, issue_key_once
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_ports import DashboardPorts
from tok0n.web.dashboard.submissions import submission_of
from tok0n.web.pages.endpoints import page_endpoint
from tok0n.web.pages.page_context import PageContext
from tok0n.web.pages.page_request import PageRequest

DAYS_MAX = 3_650
KEYS_MAX = 100
ENDED_SHOWN_MAX = 100


def key_routes(context: PageContext, ports: DashboardPorts) -> list[Route]:
    """Return the routes of API keys."""
    pages = _KeyPages(ports)
    both = ["GET", "POST"]
    return [
        Route("/dashboard/keys", page_endpoint(context, pages.keys, private=True), methods=both),
        Route("/dashboard/keys/{key}/rename", page_endpoint(context, pages.rename, private=True), methods=both),
        Route("/dashboard/keys/{key}/revoke", page_endpoint(context, pages.revoke, private=True), methods=both),
    ]


class _KeyPages:
    def __init__(self, ports: DashboardPorts) -> None:
        self._ports = ports
        self._creating = AccountLocks()

    async def keys(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._list(page)
        try:
            async with self._creating.of(page.account_id):
                issued = await issue_key_once(
                    self._ports.accounts,
                    self._ports.clock,
                    email=page.user.email,
                    name=_name(page),
                    limits=self._limits(page),
                    keys_max=KEYS_MAX,
                    submission=submission_of(page, "api_key", field="name"),
                )
        except FormError as form_error:
            return await self._list(page, form_error=form_error, status=422)
        except LimitReached as limit:
            message = f"{limit.message} Revoke one first."
            return await self._list(page, form_error=FormError(message, field="name"), status=422)
        key = await self._ports.history.key(page.account_id, issued.key_id)
        models = key.limits.models or [model.id for model in self._ports.catalogue.listed()]
        return page.render("key_made.html", key=key, issued=issued, model=next(iter(models), "MODEL"))

    async def rename(self, page: PageRequest) -> Response:
        key = await self._key(page)
        if not page.is_post:
            return page.render("key_rename.html", key=key)
        try:
            name = _name(page)
        except FormError as form_error:
            return page.render("key_rename.html", status=422, key=key, form_error=form_error)
        await self._ports.accounts.rename_key(account_id=page.account_id, key_id=key.id, name=name)
        return page.redirect("/dashboard/keys")

    async def revoke(self, page: PageRequest) -> Response:
        key = await self._key(page)
        if not page.is_post:
            return page.render("key_revoke.html", key=key)
        await self._ports.accounts.revoke_key(
            account_id=page.account_id, key_id=key.id, now_us=self._ports.clock.now_us()
        )
        return page.redirect("/dashboard/keys")

    async def _list(self, page: PageRequest, *, form_error: FormError | None = None, status: int = 200) -> Response:
        keys = await self._ports.keys(page)
        now_us = self._ports.clock.now_us()
        return page.render(
            "keys.html",
            status=status,
            working=[key for key in reversed(keys) if key.works(now_us)],
            ended=[key for key in reversed(keys) if not key.works(now_us)][:ENDED_SHOWN_MAX],
            spent=await self._ports.history.key_spent(page.account_id),
            models=self._ports.catalogue.listed(),
            chosen_models=page.choices.get("models", []),
            form_error=form_error,
        )

    async def _key(self, page: PageRequest) -> ApiKey:
        return await self._ports.history.key(page.account_id, page.request.path_params["key"])

    def _limits(self, page: PageRequest) -> KeyLimits:
        """What the form says that a key may do. Raises `FormError`."""
        days = _count(page, "days", most=DAYS_MAX)
        budget = _count(page, "budget", most=TOKENS_MAX)
        models = page.choices.get("models", [])
        if any(self._ports.catalogue.find(model) is None for model in models):
            raise FormError("One of these models is no longer available. Choose again.", field="models")
        return KeyLimits(
            expires_at_us=None if days is None else self._ports.clock.now_us() + days * MICROSECONDS_PER_DAY,
            budget=budget,
            models=tuple(dict.fromkeys(models)) or None,
        )


def _name(page: PageRequest) -> str:
    try:
        return check_name(page.form.get("name", ""))
    except OperatorError as error:
        raise FormError(error.message, field="name") from None


def _count(page: PageRequest, field: str, *, most: int) -> int | None:
    text = page.form.get(field, "").strip().replace(",", "").replace("_", "").replace(" ", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:20]) <= most:
        raise FormError(f"Enter a whole number from 1 to {most:,}, or leave this empty.", field=field)
    return int(text)
