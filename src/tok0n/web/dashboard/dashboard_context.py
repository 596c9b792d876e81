"""The ports and services of the dashboard's pages, and their pagination."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import msgspec

from tok0n.domain.accounts import ApiKey
from tok0n.domain.token_classes import TokenClasses
from tok0n.ports.accounts import History
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms
from tok0n.ports.outcomes import Outcomes
from tok0n.ports.users import Sessions, Users
from tok0n.services.api_keys import ApiKeys
from tok0n.services.catalogue import Catalogue
from tok0n.services.costs import Costs
from tok0n.services.forms import SubmitOnce
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.notices import LowBalances
from tok0n.services.profile import Profile
from tok0n.services.token_sources import TokenSources
from tok0n.web.rendering.page_request import PageRequest

ROWS_PER_PAGE = 50
_ID_DIGITS_MAX = 18
"""A number of 18 digits fits a 64-bit integer."""


class DashboardContext(msgspec.Struct, frozen=True, kw_only=True):
    """The ports and services behind the pages of an account. Every query is restricted to the user's own account."""

    api_keys: ApiKeys
    history: History
    outcomes: Outcomes
    low_balances: LowBalances
    notice_preferences: NoticePreferences
    users: Users
    sessions: Sessions
    profile: Profile
    token_classes: TokenClasses
    token_sources: TokenSources
    catalogue: Catalogue
    costs: Costs
    clock: Clock
    forms: Forms

    @property
    def submit_once(self) -> SubmitOnce:
        """Runs the action of a form once, even if the form is submitted repeatedly."""
        return SubmitOnce(self.forms, self.clock)

    async def class_titles(self, page: PageRequest) -> dict[str, str]:
        """Return the names of the token classes by id, or none if the settings and the account have only one."""
        return self.class_titles_of(await self.history.wallets(page.account_id))

    def class_titles_of(self, token_classes: Collection[str]) -> dict[str, str]:
        """Return the names of the token classes that pages show to an account with wallets of `token_classes`."""
        return self.token_classes.titles(token_classes) if self.token_classes.are_several(token_classes) else {}

    async def keys(self, page: PageRequest) -> list[ApiKey]:
        """Return the keys of the user's account, oldest first."""
        return await self.api_keys.list_for_account(page.account_id)

    async def models(self, page: PageRequest) -> list[str]:
        """Return the ids of the listed models, then those of other models that the account has used."""
        listed = [model.id for model in self.catalogue.listed()]
        used = await self.history.models_used(page.account_id)
        return listed + [model for model in used if model not in listed]


def key_names(keys: Iterable[ApiKey]) -> dict[str, str]:
    """Return the chart label of each key, by key id. Names may repeat, so a label has the last four characters."""
    return {key.id: f"{key.name} (\N{HORIZONTAL ELLIPSIS}{key.last_four})" for key in keys}


def before_id(page: PageRequest) -> int | None:
    """Return the numeric id before which the requested page starts, or None for the first page."""
    before = page.query("before")
    is_id = before.isascii() and before.isdecimal() and len(before) <= _ID_DIGITS_MAX
    return int(before) if is_id else None


async def fetch_rows(fetch: Callable[..., Awaitable[list[Any]]], *, before: int | str | None) -> dict[str, Any]:
    """Return the template variables of a page of rows. `fetch` returns the newest `rows_max` rows `before` an id."""
    rows = await fetch(before=before, rows_max=ROWS_PER_PAGE + 1)
    return rows_variables(rows, is_first=before is None)


def rows_variables(rows: list[Any], *, is_first: bool) -> dict[str, Any]:
    """Return the template variables of a page. An extra row, which isn't shown, means that there is an older page."""
    older = rows[ROWS_PER_PAGE - 1].id if len(rows) > ROWS_PER_PAGE else None
    return {"rows": rows[:ROWS_PER_PAGE], "older": older, "is_first": is_first}
