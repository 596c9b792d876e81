"""How many files this process may have open, connections among them."""

import resource

OPEN_FILES = 65_536


def allow_many_files() -> int:
    """Most systems let a process have 1,024 files open until it asks for more, as Go's runtime does by itself.

    Gives how many are allowed now, as far as `OPEN_FILES`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has a limit of its own below "unlimited"
        return soft
    return most
