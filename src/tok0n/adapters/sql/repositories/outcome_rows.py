"""How a row of `request_outcome` stores its histogram of latencies."""

from tok0n.domain.latency import COUNT_BITS


def encode(packed: int) -> bytes:
    """Return a packed histogram as bytes: the number of its first bucket, and the counts from there on.

    One byte is enough for the bucket of any latency of less than half a year.
    """
    first = max(0, (packed & -packed).bit_length() - 1) // COUNT_BITS
    counts = packed >> (first * COUNT_BITS)
    return bytes([first]) + counts.to_bytes(-(-counts.bit_length() // 8), "little")


def decode(stored: bytes) -> int:
    """Return the packed histogram of `encode`."""
    return int.from_bytes(stored[1:], "little") << (stored[0] * COUNT_BITS)
