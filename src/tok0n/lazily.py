"""Import a package when it is first used: what few processes need costs the start of the others nothing."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any


class Lazily:
    """Stands for a module. Its first use imports it, and raises `ImportError` where it is not installed."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        """What the module has by this name."""
        return getattr(importlib.import_module(self._module), name)


def is_installed(module: str) -> bool:
    """Whether a module is there, without importing it."""
    return importlib.util.find_spec(module) is not None


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Import something as where `module` is not installed, which it would import although nobody needs it."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        yield
    finally:
        del sys.modules[module]
