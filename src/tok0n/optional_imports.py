"""Find out whether an optional package is installed, and hide packages that others import for no use of ours."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator


def is_installed(module: str) -> bool:
    """Whether a module can be imported. Doesn't import it."""
    return importlib.util.find_spec(module) is not None


@contextlib.contextmanager
def hidden(module: str) -> Iterator[None]:
    """Within the block, importing `module` raises `ImportError`, unless it has been imported already.

    For packages that import an optional dependency whenever they find it, although we don't use it.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's way to mark a module as missing
    try:
        yield
    finally:
        del sys.modules[module]
