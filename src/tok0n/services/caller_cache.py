"""Tell who calls. A key that was looked up is remembered for a moment, so that a busy one costs no query each time.

Being remembered never lets a revoked key spend: the reservation proves in the database that the key is active.
"""

import asyncio
import hashlib
from collections import OrderedDict

from tok0n.domain import api_key
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import InvalidApiKey
from tok0n.ports.accounts import Accounts
from tok0n.ports.clock import Clock

FRESH_SECONDS = 1.0
"""After it a key is looked up again, once for all who use it, and nobody waits for that."""

CACHE_TTL_SECONDS = 2.0
REMEMBERED_MAX = 10_000


class CallerCache:
    """The callers seen lately, by the digest of their Authorization header: the keys themselves are not kept."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._used: dict[str, float] = {}

    def remembered(self, authorization: bytes | None) -> Caller | None:
        """The caller behind an Authorization header, if its key was looked up lately."""
        header = hashlib.sha256(authorization or b"").digest()
        now = self._clock.monotonic()
        caller, looked_up = self._callers.get(header, (None, now))
        if caller is None or now - looked_up >= CACHE_TTL_SECONDS:
            return None
        if now - looked_up >= FRESH_SECONDS:
            self._look_up(header, authorization)
        self._used[caller.api_key_id] = now
        return caller

    async def authenticate(self, authorization: bytes | None) -> Caller:
        """The caller behind an Authorization header.

        Raises `InvalidApiKey`; or `AccountingFailed` or `Overloaded` when the lookup itself fails, because clients
        never retry a 401.
        """
        caller = self.remembered(authorization)
        if caller is None:
            header = hashlib.sha256(authorization or b"").digest()
            caller = await asyncio.shield(self._look_up(header, authorization))
            if caller is None:
                raise InvalidApiKey("This API key is not known here, or it was revoked.")
            self._used[caller.api_key_id] = self._clock.monotonic()
        return caller

    def _look_up(self, header: bytes, authorization: bytes | None) -> asyncio.Task[Caller | None]:
        """One lookup for all who present the same key meanwhile. Raises `InvalidApiKey` for what is no key at all."""
        lookup = self._lookups.get(header)
        if lookup is None:
            digest = api_key.digest(api_key.key_from_authorization(authorization))
            lookup = self._lookups[header] = asyncio.create_task(self._ask(header, digest), name="key lookup")
            lookup.add_done_callback(_look_at)
        return lookup

    async def _ask(self, header: bytes, digest: bytes) -> Caller | None:
        asked = self._clock.monotonic()
        try:
            caller = await self._accounts.find_caller(digest, now_us=self._clock.now_us())
        finally:
            del self._lookups[header]
        if caller is None:
            self._callers.pop(header, None)
            return None
        self._callers[header] = (caller, asked)
        self._callers.move_to_end(header)
        if len(self._callers) > REMEMBERED_MAX:
            self._callers.popitem(last=False)
        return caller

    async def aclose(self) -> None:
        """Wait for the lookups that nobody waits for."""
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)

    def mark_used(self, caller: Caller) -> None:
        """Note that a signed-in user used a key of the account, without presenting it."""
        self._used[caller.api_key_id] = self._clock.monotonic()

    async def flush_last_used(self) -> None:
        """Write down when keys were last used. What cannot be written is tried again the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        now_us = self._clock.now_us() - round(self._clock.monotonic() * 1_000_000)
        try:
            await self._accounts.keys_used({key: now_us + round(at * 1_000_000) for key, at in used.items()})
        except BaseException:
            self._used = used | self._used
            raise


def _look_at(lookup: asyncio.Task[Caller | None]) -> None:
    """A lookup that failed and that nobody waited for is no error: the next use of the key asks again."""
    if not lookup.cancelled():
        lookup.exception()
