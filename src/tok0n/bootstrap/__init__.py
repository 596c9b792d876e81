"""Wires everything together: the only place that names concrete adapters."""

from tok0n.optional_imports import hidden

with hidden("rich"):  # an eighth of a second, for tracebacks that our logs do not have
    import structlog  # noqa: F401
