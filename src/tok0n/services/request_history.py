"""The requests of an account, newest first: those that reserved tokens, and those that were rejected before."""

import heapq
from collections.abc import Sequence

from tok0n.domain.errors import NotFound
from tok0n.domain.history import RequestFilter, RequestRecord
from tok0n.domain.rejections import RejectedRequest
from tok0n.ports.accounts import History

HistoryEntry = RequestRecord | RejectedRequest


class RequestHistory:
    """Finds requests in both tables. An id is in one of them only."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def find(self, account_id: str, request_id: str) -> HistoryEntry:
        """Return a request of the account. Raises `NotFound`, including for a rejected request that was deleted."""
        try:
            return await self._history.request(account_id, request_id)
        except NotFound:
            return await self._history.rejected_request(account_id, request_id)

    async def newest(
        self, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[HistoryEntry]:
        """Return at most `rows_max` requests with ids below `before`, newest first.

        If the filter `is_measured`, there may be more matches than it returns, unless it returns none.
        """
        if filters.is_measured:
            return await self._found(account_id, filters, before=before, rows_max=rows_max)
        records: Sequence[HistoryEntry] = await self._history.requests(
            account_id, filters, before=before, rows_max=rows_max
        )
        rejected: Sequence[HistoryEntry] = await self._history.rejected_requests(
            account_id, filters, before=before, rows_max=rows_max
        )
        merged = heapq.merge(records, rejected, key=lambda entry: entry.id, reverse=True)
        return list(merged)[:rows_max]

    async def _found(
        self, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[HistoryEntry]:
        """Search step by step until a request matches. Each step is a query of its own, so none takes long."""
        while True:
            step = await self._history.search_requests(
                account_id, filters, search_before=before, before=None, rows_max=rows_max
            )
            if step.rows or step.searched_to is None:
                return list(step.rows)
            before = step.searched_to
