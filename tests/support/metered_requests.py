"""Metered requests for tests that don't read one."""

from tok0n.domain.catalogue import Model, Route
from tok0n.domain.metered_request import MeteredRequest


def metered_request(model: str = "m", *, upstream_model: str = "m", inputs: int = 0) -> MeteredRequest:
    """A request to a model with this public id."""
    route = Route(upstream="u", upstream_model=upstream_model)
    return MeteredRequest(
        model=Model(id=model, routes=(route,), max_output_tokens=100, default_output_tokens=100),
        route=route,
        upstream_body=b"{}",
        prompt_bound=100,
        output_limit=100,
        n=1,
        prediction_bytes=0,
        inputs=inputs,
    )
