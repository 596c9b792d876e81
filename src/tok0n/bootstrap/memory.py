"""Return memory to the system after a burst of requests.

A process stays large for two reasons. Only the garbage collector frees objects in reference cycles. And glibc keeps
freed memory for later allocations, in an arena for each thread and below blocks that are still in use. This module has
no effect with another C library.
"""

import asyncio
import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRIM_SECONDS = 5.0
GROWTH_BYTES_MIN = 8 * 1024 * 1024
"""A clean-up starts if the process has grown by this much since its smallest size."""

ROUNDS = 6
"""The number of collections and trims of a clean-up, because some memory is still in use at first."""

MMAP_BYTES_MIN = 256 * 1024
"""glibc maps blocks of at least this size separately, and unmaps them when freed. A fixed value stops its growth."""

TRIM_BYTES_MIN = 64 * 1024 * 1024
"""glibc shrinks the heap only by more than this, because shrinking and growing with each request costs CPU."""

ARENAS_MAX = 2

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_STATM = Path("/proc/self/statm")


def find_glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc on Linux."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows has no library of that name
        return None
    return library if hasattr(library, "malloc_trim") and _STATM.exists() else None


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


class MemoryTrimmer:
    """Collects garbage and trims the heap after the process has grown."""

    def __init__(self, glibc: Any, *, resident_bytes: Callable[[], int] = resident_bytes) -> None:
        """`glibc` is None with another C library."""
        self._glibc = glibc
        self._resident_bytes = resident_bytes
        self._smallest_bytes: int | None = None
        self._rounds_left = 0

    def limit_arenas(self) -> None:
        """Limit the number of arenas, and keep large blocks out of the heap."""
        if self._glibc is not None:
            self._glibc.mallopt(_M_ARENA_MAX, ARENAS_MAX)
            self._glibc.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES_MIN)
            self._glibc.mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES_MIN)

    async def trim(self) -> None:
        """Run one round of a clean-up if one is in progress or the process has grown. A round takes milliseconds."""
        if self._glibc is None:
            return
        resident_bytes = self._resident_bytes()
        if self._smallest_bytes is None:
            self._smallest_bytes = resident_bytes
        if not self._rounds_left and resident_bytes >= self._smallest_bytes + GROWTH_BYTES_MIN:
            self._rounds_left = ROUNDS
        if self._rounds_left:
            self._rounds_left -= 1
            gc.collect()
            await asyncio.to_thread(self._glibc.malloc_trim, 0)
            resident_bytes = self._resident_bytes()
            if not self._rounds_left:
                self._smallest_bytes = resident_bytes  # The process needs this much.
                return
        self._smallest_bytes = min(self._smallest_bytes, resident_bytes)
