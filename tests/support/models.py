"""Models for tests."""

from typing import Any

from tok0n.domain.catalogue import Model, Route


def make_model(id_: str = "m", *, upstream: str = "u", upstream_model: str = "um", **more: Any) -> Model:
    """Return a model with one route."""
    limits = {"max_output_tokens": 1000, "default_output_tokens": 100}
    return Model(id=id_, routes=(Route(upstream=upstream, upstream_model=upstream_model),), **limits | more)
