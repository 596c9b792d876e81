"""Count the bytes of requests that wait to be admitted, and select the request to evict if there are too many bytes.

A request with more than a few kilobytes has a `ByteCount`. Its owner is the client, or the account once the API key is
known. It ends when the request is admitted or ends.
"""

from collections.abc import Callable, Hashable

OWNER_IS_FULL = "rate_limit_error"
SERVER_IS_FULL = "overloaded"
"""The error codes of the two limits."""

FULL_MESSAGES = {
    OWNER_IS_FULL: "Together, the request bodies that this client or account is sending are too large. Retry later.",
    SERVER_IS_FULL: "The server holds as many request bodies as it can. Retry later.",
}


class BufferedBytes:
    """Adds up the counts: at most `buffered_bytes_max` in all, and `owner_bytes_max` for each owner."""

    def __init__(self, *, buffered_bytes_max: int, owner_bytes_max: int) -> None:
        self.total = 0
        self.peak = 0
        self._total_max = buffered_bytes_max
        self._owner_max = owner_bytes_max
        self._bytes: dict[Hashable, int] = {}
        self._counts: dict[Hashable, set[ByteCount]] = {}

    def new_count(self, owner: Hashable, *, on_evict: Callable[[str], None]) -> "ByteCount":
        """Return a new count of 0 bytes. `on_evict` is called with an error code if the server needs the memory."""
        count = ByteCount(self, owner, on_evict)
        self._counts.setdefault(owner, set()).add(count)
        return count

    def add(self, count: "ByteCount", size: int) -> str | None:
        """Add bytes to a count. If the total is too high, evict the largest counts of the owner with the most bytes.

        Returns `OWNER_IS_FULL` and counts nothing if the owner exceeds its limit. Returns `SERVER_IS_FULL` if the
        total is too high and this owner has the most bytes. They are counted, and the caller must release the count.
        """
        of_owner = self._bytes.get(count.owner, 0) + size
        if of_owner > self._owner_max:
            return OWNER_IS_FULL
        self._bytes[count.owner] = of_owner
        count.size += size
        self.total += size
        while self.total > self._total_max:
            largest = max(self._bytes, key=self._bytes.__getitem__)
            if largest == count.owner:
                return SERVER_IS_FULL
            victim = max(self._counts[largest], key=lambda other: other.size)
            self.remove(victim)
            victim.on_evict(SERVER_IS_FULL)
        self.peak = max(self.peak, self.total)
        return None

    def move(self, count: "ByteCount", owner: Hashable) -> str | None:
        """Change the owner of a count. Returns an error code as `add` does."""
        self.remove(count)
        size, count.size, count.owner = count.size, 0, owner
        self._counts.setdefault(owner, set()).add(count)
        return self.add(count, size)

    def remove(self, count: "ByteCount") -> None:
        """Remove a count and its bytes. Does nothing if it is already removed."""
        counts = self._counts.get(count.owner)
        if counts is None or count not in counts:
            return
        counts.discard(count)
        self.total -= count.size
        rest = self._bytes.get(count.owner, 0) - count.size
        if rest:
            self._bytes[count.owner] = rest
        else:
            self._bytes.pop(count.owner, None)
        if not counts:
            del self._counts[count.owner]


class ByteCount:
    """The bytes of one request."""

    __slots__ = ("_buffered", "on_evict", "owner", "size")

    def __init__(self, buffered: BufferedBytes, owner: Hashable, on_evict: Callable[[str], None]) -> None:
        self._buffered = buffered
        self.owner = owner
        self.on_evict = on_evict
        self.size = 0

    def add(self, size: int) -> str | None:
        """Count more bytes, as `BufferedBytes.add` does."""
        return self._buffered.add(self, size)

    def move(self, owner: Hashable) -> str | None:
        """Count the bytes for another owner, as `BufferedBytes.move` does."""
        return self._buffered.move(self, owner)

    def release(self) -> None:
        """Stop counting these bytes."""
        self._buffered.remove(self)
