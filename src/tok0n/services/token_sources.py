"""Find out how customers get tokens on this server, for pages, emails and the 402 of the API."""

from collections.abc import Callable, Collection

from tok0n.domain.token_source import TokenSource, advice
from tok0n.ports.clock import Clock
from tok0n.ports.orders import UsableCodes

CODES_CACHE_SECONDS = 30.0
"""How long to cache whether there is a code to redeem, because a client may repeat a request that gets a 402."""


class TokenSources:
    """The ways to get tokens. `sold_classes` are the token classes of the packs for sale, and `support` is whom to ask.

    `url_of` turns a path into a full URL.
    """

    def __init__(
        self,
        codes: UsableCodes,
        clock: Clock,
        *,
        sold_classes: Collection[str],
        url_of: Callable[[str], str],
        support: str = "support",
    ) -> None:
        self._codes = codes
        self._clock = clock
        self._sold_classes = frozenset(sold_classes)
        self._url_of = url_of
        self._support = support
        self._has_codes = False
        self._stale_at_seconds = 0.0

    async def find(self, token_class: str | None = None) -> TokenSource:
        """Return the best way to get tokens of a class, or of any class."""
        if self._sold_classes if token_class is None else token_class in self._sold_classes:
            return TokenSource.BUY
        now_seconds = self._clock.monotonic()
        if now_seconds >= self._stale_at_seconds:
            self._has_codes = await self._codes.exist(now_us=self._clock.now_us())
            self._stale_at_seconds = now_seconds + CODES_CACHE_SECONDS
        return TokenSource.REDEEM if self._has_codes else TokenSource.SUPPORT

    async def advice(self, token_class: str, *, is_named: bool = False) -> str:
        """Return the sentences that say how to get tokens of a class. They name the class if `is_named`."""
        return advice(
            await self.find(token_class),
            url=self._url_of("/dashboard/buy"),
            support=self._support,
            token_class=token_class if is_named else None,
        )
