"""Find the caller of each request. A cached caller stays valid until its key or account changes.

So most requests need no query. `refresh` reads once a second which keys have changed, in every process. A stale caller
can't spend: the reservation checks in the database that the key has not changed. The keys of suspended accounts are
never cached, nor are disabled keys.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection

import msgspec

from tok0n.domain import api_key
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import AccountingFailed, AccountSuspended, InvalidApiKey, KeyLookupFailed, Tok0nError
from tok0n.ports.callers import Callers
from tok0n.ports.clock import Clock

CALLERS_MAX = 100_000
"""The most callers to cache. Each takes about 0.5 kB. Past it, the least recently used one is evicted."""

IDLE_SECONDS = 600.0
"""A caller that was not used for this long is evicted."""

EVICTED_AT_ONCE_MAX = 10_000

_BEARER = b"Bearer "
_DIGEST_BYTES = hashlib.sha256().digest_size


class _Entry(msgspec.Struct, gc=False):
    """A cached caller, and the monotonic time of its last use in seconds."""

    caller: Caller
    used_at: float


class CallerCache:
    """The callers of the last minutes by the digest of their key, least recently used first. Holds no keys."""

    def __init__(self, callers: Callers, clock: Clock, *, callers_max: int = CALLERS_MAX) -> None:
        self._callers = callers
        self._clock = clock
        self._callers_max = callers_max
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._digests: dict[str, bytes] = {}
        """The concatenated digests of each key's cached secrets. A rotated key can have several.

        A tuple would take 64 bytes more per key.
        """
        self._lookups: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._change: int | None = None
        """The number of the last change that `refresh` has seen. Nothing is cached before the first one."""
        self._used: dict[str, float] = {}
        """When keys without an entry were last used, for the next flush."""
        self._flushed_at = clock.monotonic()

    def __len__(self) -> int:
        return len(self._entries)

    def cached(self, authorization: bytes | None) -> Caller | None:
        """Return the caller of an Authorization header, or None if it isn't cached."""
        if authorization is None or not authorization.startswith(_BEARER):
            return None  # `authenticate` reads other spellings.
        return self._use(hashlib.sha256(authorization[len(_BEARER) :]).digest())

    async def authenticate(self, authorization: bytes | None) -> Caller:
        """Return the caller of an Authorization header, from the cache or the database.

        Raises `InvalidApiKey` and `AccountSuspended`. If the lookup fails, raises `KeyLookupFailed` or `Overloaded`
        instead, because clients never retry a 401.
        """
        digest = api_key.digest(api_key.key_from_authorization(authorization))
        return self._use(digest) or await self._find(digest)

    async def authenticate_now(self, authorization: bytes | None) -> Caller:
        """Return the caller as the database has it now, for requests that don't reserve. Raises as `authenticate`."""
        return await self._find(api_key.digest(api_key.key_from_authorization(authorization)))

    async def read_again(self, stale: Caller) -> Caller:
        """Return the caller of the same secret as the database has it now. Raises as `authenticate`.

        Call it if the ledger finds that the key has changed. `stale` must have the digest of its secret.
        """
        assert stale.secret_digest is not None
        return await self._find(stale.secret_digest)

    async def refresh(self) -> None:
        """Drop the callers whose key or account has changed, and those that are idle."""
        changes = await self._callers.changes(after=self._change)
        self._change = changes.number
        if changes.api_key_ids is None:
            for digest in list(self._entries):
                self._evict(digest)
        else:
            for key_id in changes.api_key_ids & self._digests.keys():
                for digest in _split(self._digests[key_id]):
                    self._evict(digest)
        idle_since = self._clock.monotonic() - IDLE_SECONDS
        for _ in range(EVICTED_AT_ONCE_MAX):
            oldest = next(iter(self._entries.items()), None)
            if oldest is None or oldest[1].used_at > idle_since:
                break
            self._evict(oldest[0])

    def mark_used(self, caller: Caller) -> None:
        """Record that a signed-in user used a key of the account, without sending it."""
        self._used[caller.api_key_id] = self._clock.monotonic()

    async def flush_last_used(self) -> None:
        """Store when keys were last used. What can't be stored is kept for the next flush."""
        used, self._used = self._take_used(), {}
        if not used:
            return
        start_us = self._clock.now_us() - round(self._clock.monotonic() * 1_000_000)
        locked: Collection[str] = used
        try:
            locked = await self._callers.mark_used(
                {key_id: start_us + round(at * 1_000_000) for key_id, at in used.items()}
            )
        finally:
            self._used = {key_id: used[key_id] for key_id in locked} | self._used

    async def aclose(self) -> None:
        """Wait for the lookups in progress."""
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)

    def _use(self, digest: bytes) -> Caller | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        caller = entry.caller
        if caller.expires_at_us is not None and caller.has_expired(self._clock.now_us()):
            self._evict(digest)
            return None
        entry.used_at = self._clock.monotonic()
        self._entries.move_to_end(digest)
        return caller

    async def _find(self, digest: bytes) -> Caller:
        """Look up a usable caller. Raises `InvalidApiKey`, `AccountSuspended`, `KeyLookupFailed` or `Overloaded`."""
        caller = await asyncio.shield(self._look_up(digest))
        if caller is None:
            error = InvalidApiKey("This API key is not known here, or it was revoked.")
            error.secret_digest = digest
            raise error
        require_usable(caller)
        if digest not in self._entries:  # An entry has its own `used_at`.
            self._used[caller.api_key_id] = self._clock.monotonic()
        return caller

    def _look_up(self, digest: bytes) -> asyncio.Task[Caller | None]:
        """Return the lookup of a key, which all requests with this key share meanwhile."""
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = self._lookups[digest] = asyncio.create_task(self._query(digest), name="key lookup")
            lookup.add_done_callback(_consume_error)
        return lookup

    async def _query(self, digest: bytes) -> Caller | None:
        change = self._change
        try:
            caller = await self._callers.find(digest, now_us=self._clock.now_us())
        except AccountingFailed as error:
            raise KeyLookupFailed(detail=error.detail) from error
        finally:
            del self._lookups[digest]
        if caller is not None:
            caller = msgspec.structs.replace(caller, secret_digest=digest)
        if caller is None or caller.is_disabled or caller.is_suspended:
            self._evict(digest)
        elif change is not None and change == self._change:  # Otherwise this key may have changed since the query.
            self._add(digest, caller)
        return caller

    def _add(self, digest: bytes, caller: Caller) -> None:
        self._evict(digest)
        self._entries[digest] = _Entry(caller, self._clock.monotonic())
        self._digests[caller.api_key_id] = self._digests.get(caller.api_key_id, b"") + digest
        if len(self._entries) > self._callers_max:
            self._evict(next(iter(self._entries)))

    def _evict(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            key_id = entry.caller.api_key_id
            remaining = b"".join(other for other in _split(self._digests.pop(key_id)) if other != digest)
            if remaining:
                self._digests[key_id] = remaining
            if entry.used_at >= self._flushed_at:
                self._used[key_id] = max(entry.used_at, self._used.get(key_id, 0.0))

    def _take_used(self) -> dict[str, float]:
        """Add the last uses since the previous call to `_used`. Returns it: monotonic seconds by the id of the key."""
        used = self._used
        for entry in reversed(self._entries.values()):
            if entry.used_at < self._flushed_at:
                break
            key_id = entry.caller.api_key_id
            used[key_id] = max(entry.used_at, used.get(key_id, 0.0))
        self._flushed_at = self._clock.monotonic()
        return used


def _split(digests: bytes) -> list[bytes]:
    """Split concatenated digests."""
    return [digests[start : start + _DIGEST_BYTES] for start in range(0, len(digests), _DIGEST_BYTES)]


def require_usable(caller: Caller) -> None:
    """Raise `AccountSuspended`, or `InvalidApiKey` if the key is disabled. The error names the key."""
    error: Tok0nError
    if caller.is_suspended:
        error = AccountSuspended()
    elif caller.is_disabled:
        error = InvalidApiKey("This API key is disabled. Its owner can enable it again.")
    else:
        return
    error.key = (caller.account_id, caller.api_key_id)
    raise error


def _consume_error(lookup: asyncio.Task[Caller | None]) -> None:
    """Retrieve the exception of a lookup that no request waits for, because asyncio would log it."""
    if not lookup.cancelled():
        lookup.exception()
