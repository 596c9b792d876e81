"""Lower the priority of threads whose work isn't urgent, so that threads that serve requests run first."""

import contextlib
import os
import sys
import threading

BACKGROUND_NICENESS = 5
"""How much is added to the niceness of threads that read and render pages.

With 10, another process can keep such a thread off the core while it holds Python's global lock, and requests wait for
the lock (docs/performance.md).
"""

NICENESS_MAX = 19


def lower_priority(niceness: int) -> None:
    """Add `niceness` to the niceness of the calling thread, which is then at most 19. Call it once per thread.

    Does nothing except on Linux, because elsewhere a priority applies to the whole process.
    """
    if sys.platform == "linux":
        thread_id = threading.get_native_id()
        with contextlib.suppress(OSError):
            lowered = min(NICENESS_MAX, os.getpriority(os.PRIO_PROCESS, thread_id) + niceness)
            os.setpriority(os.PRIO_PROCESS, thread_id, lowered)
