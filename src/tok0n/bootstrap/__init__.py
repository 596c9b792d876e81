"""Build the application from its parts. Only this package chooses adapters."""

from tok0n.optional_imports import hidden

with hidden("rich"):  # Importing it takes an eighth of a second, and our logs don't use its tracebacks.
    import structlog  # noqa: F401
