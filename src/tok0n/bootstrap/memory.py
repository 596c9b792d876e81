"""Return memory to the system after a burst, so that a flood does not leave the process large.

glibc keeps freed memory for later allocations: in an arena for each thread, and below blocks that are still in use.
With another C library, nothing here has an effect.
"""

import asyncio
import ctypes

TRIM_SECONDS = 5.0
FREED_BYTES_MIN = 4 * 1024 * 1024
"""How much more must be free than at the last look for another trim: trimming takes milliseconds."""

MMAP_BYTES_MIN = 256 * 1024
"""Blocks from this size on are mapped on their own and unmapped when freed. Setting it stops glibc from raising it."""

ARENAS_MAX = 2

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h: ten sizes, of which the ninth is the free bytes of all arenas."""

    _fields_ = (("before", ctypes.c_size_t * 8), ("free_bytes", ctypes.c_size_t), ("after", ctypes.c_size_t))


class MemoryTrimmer:
    """Trims the heap whenever more of it has become free."""

    def __init__(self) -> None:
        self._glibc = _glibc()
        self._free_bytes = 0

    def limit_arenas(self) -> None:
        """Keep threads from making arenas of their own, and large blocks out of the heap."""
        if self._glibc is not None:
            self._glibc.mallopt(_M_ARENA_MAX, ARENAS_MAX)
            self._glibc.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES_MIN)

    async def trim(self) -> None:
        """Return freed memory to the system, in a thread, if there is more than at the last look."""
        if self._glibc is None:
            return
        free_bytes = self._glibc.mallinfo2().free_bytes
        if free_bytes >= self._free_bytes + FREED_BYTES_MIN:
            await asyncio.to_thread(self._glibc.malloc_trim, 0)
            self._free_bytes = free_bytes
        else:
            self._free_bytes = min(self._free_bytes, free_bytes)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is a glibc that can tell how much is free (2.33 or newer)."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _MallInfo
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library of that name
        return None
    return library
