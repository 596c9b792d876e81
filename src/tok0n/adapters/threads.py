"""Lower the priority of threads whose work isn't urgent, so that threads that serve requests run first."""

import contextlib
import os
import sys

BACKGROUND_NICENESS = 5
"""By how much the niceness of threads that read and render pages is raised.

With 10, another process can keep such a thread off the core while it holds Python's global lock, and requests wait for
the lock (docs/performance.md).
"""

NICENESS_MAX = 19


def lower_priority(niceness: int) -> None:
    """Add `niceness` to the niceness of the calling thread, up to 19. Call it once per thread.

    Does nothing except on Linux, because elsewhere `os.nice` changes the priority of the whole process.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.nice(niceness)
