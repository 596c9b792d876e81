"""Wires everything together: the only place that names concrete adapters."""

from tok0n.lazily import without

with without("rich"):  # an eighth of a second, for tracebacks that our logs do not have
    import structlog  # noqa: F401
