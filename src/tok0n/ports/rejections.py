"""The table of rejected requests, which is apart from the ledger."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tok0n.domain.rejections import Rejection, RejectionCount, RejectionTotal


class RejectedRequests(Protocol):
    """Stores rejected requests and their counts. `History` reads them."""

    async def record(self, rejections: Sequence[Rejection], counts: Mapping[RejectionCount, RejectionTotal]) -> None:
        """Store rejections and add to the counts. Omits those with the digest of a secret that no key has.

        Raises `AccountingFailed` and `Overloaded`.
        """

    async def delete_before(self, *, requests_us: int, counts_us: int, rows_max: int) -> bool:
        """Delete `rows_max` requests older than `requests_us`, and one quarter hour of counts older than `counts_us`.

        Returns whether there may be more to delete.
        """
