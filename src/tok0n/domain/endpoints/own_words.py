"""Collect the texts that the descriptions of the endpoints consist of: names of fields, and parts of error messages.

A text that is one of them was not written by a client, so a rejected request may keep it.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tok0n.domain import endpoints
from tok0n.domain.endpoints.fields import Only
from tok0n.domain.endpoints.messages_fields import Source


@functools.cache
def own_words() -> frozenset[str]:
    """Return every string in a constant of the modules of this package, at any depth."""
    modules = [importlib.import_module(module.name) for module in pkgutil.iter_modules(endpoints.__path__, _PREFIX)]
    seen: set[int] = set()
    return frozenset(
        word for module in modules for value in list(vars(module).values()) for word in _strings(value, seen)
    )


_PREFIX = f"{endpoints.__name__}."


def _strings(value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Only | Source):
        yield value.expectation
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _strings(getattr(value, name), seen)
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _strings(key, seen)
            yield from _strings(member, seen)
    elif isinstance(value, tuple | list | frozenset):
        for member in value:
            yield from _strings(member, seen)
