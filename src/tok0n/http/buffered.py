"""Count the bytes of requests that wait to be admitted, and select the request to evict if there are too many bytes.

A request with more than a few kilobytes has a `Hold`, which counts its bytes. A hold has a holder: the client, or the
account once the API key is known. It ends when the request is admitted or ends.
"""

from collections.abc import Callable, Hashable

HOLDER_IS_FULL = "rate_limit_error"
SERVER_IS_FULL = "overloaded"
"""The error codes of the two limits."""

FULL_MESSAGES = {
    HOLDER_IS_FULL: "Together, the request bodies that this client or account is sending are too large. Retry later.",
    SERVER_IS_FULL: "The server holds as many request bodies as it can. Retry later.",
}


class BufferedBytes:
    """Counts the bytes of all holds: at most `buffered_bytes_max` in all, and `holder_bytes_max` for each holder."""

    def __init__(self, *, buffered_bytes_max: int, holder_bytes_max: int) -> None:
        self.total = 0
        self.peak = 0
        self._total_max = buffered_bytes_max
        self._holder_max = holder_bytes_max
        self._bytes: dict[Hashable, int] = {}
        self._holds: dict[Hashable, set[Hold]] = {}

    def hold(self, holder: Hashable, *, on_evict: Callable[[str], None]) -> "Hold":
        """Return a new hold of 0 bytes. `on_evict` is called with an error code if the server needs the memory."""
        hold = Hold(self, holder, on_evict)
        self._holds.setdefault(holder, set()).add(hold)
        return hold

    def add(self, hold: "Hold", size: int) -> str | None:
        """Count `size` more bytes for a hold. If the total is too high, evict the largest holds of the largest holder.

        Returns `HOLDER_IS_FULL` and counts nothing if the holder exceeds its limit. Returns `SERVER_IS_FULL` if the
        total is too high and this holder is the largest. The bytes are counted, and the caller must release the hold.
        """
        held = self._bytes.get(hold.holder, 0) + size
        if held > self._holder_max:
            return HOLDER_IS_FULL
        self._bytes[hold.holder] = held
        hold.size += size
        self.total += size
        while self.total > self._total_max:
            largest = max(self._bytes, key=self._bytes.__getitem__)
            if largest == hold.holder:
                return SERVER_IS_FULL
            victim = max(self._holds[largest], key=lambda other: other.size)
            self.remove(victim)
            victim.on_evict(SERVER_IS_FULL)
        self.peak = max(self.peak, self.total)
        return None

    def move(self, hold: "Hold", holder: Hashable) -> str | None:
        """Change the holder of a hold. Returns an error code as `add` does."""
        self.remove(hold)
        size, hold.size, hold.holder = hold.size, 0, holder
        self._holds.setdefault(holder, set()).add(hold)
        return self.add(hold, size)

    def remove(self, hold: "Hold") -> None:
        """Remove a hold and its bytes. Does nothing if it is already removed."""
        holds = self._holds.get(hold.holder)
        if holds is None or hold not in holds:
            return
        holds.discard(hold)
        self.total -= hold.size
        rest = self._bytes.get(hold.holder, 0) - hold.size
        if rest:
            self._bytes[hold.holder] = rest
        else:
            self._bytes.pop(hold.holder, None)
        if not holds:
            del self._holds[hold.holder]


class Hold:
    """The bytes of one request."""

    __slots__ = ("_buffered", "holder", "on_evict", "size")

    def __init__(self, buffered: BufferedBytes, holder: Hashable, on_evict: Callable[[str], None]) -> None:
        self._buffered = buffered
        self.holder = holder
        self.on_evict = on_evict
        self.size = 0

    def add(self, size: int) -> str | None:
        """Count more bytes, as `BufferedBytes.add` does."""
        return self._buffered.add(self, size)

    def move(self, holder: Hashable) -> str | None:
        """Count the bytes for another holder, as `BufferedBytes.move` does."""
        return self._buffered.move(self, holder)

    def release(self) -> None:
        """Stop counting these bytes."""
        self._buffered.remove(self)
