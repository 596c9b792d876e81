"""Raise the limit of open files, which includes connections."""

import resource

OPEN_FILES = 65_536


def allow_many_files() -> int:
    """Raise the soft limit of open files to `OPEN_FILES` or the hard limit, whichever is lower. Returns the limit.

    The default soft limit is 1,024 on most systems. Go's runtime raises it automatically, and Python doesn't.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):  # macOS has a lower limit even if the hard limit is "unlimited".
        return soft
    return limit
