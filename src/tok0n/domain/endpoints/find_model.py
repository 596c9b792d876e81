"""Find the model of a request."""

from typing import Any

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.endpoint import FindModel
from tok0n.domain.endpoints.fields import ModelId, reject
from tok0n.domain.errors import UnknownModel

MODEL_ID = ModelId(characters_max=256)


def find_listed(model_id: Any, find_model: FindModel, endpoint: str) -> Model:
    """Return the listed model. Raises `UnknownModel`, or `InvalidRequest` if `endpoint` doesn't serve the model."""
    MODEL_ID.check_id(model_id, "model")
    model = find_model(model_id)
    if model is None:
        raise UnknownModel(model_id)
    if endpoint not in model.endpoints:
        from tok0n.domain.endpoints import BY_NAME  # noqa: PLC0415  its modules import this one

        served = " and ".join(f"POST {BY_NAME[name].path}" for name in model.endpoints)
        reject("model", f"The model {model.id} is not served at POST {BY_NAME[endpoint].path}. Call it at {served}.")
    return model


def check_streams(model: Model, endpoint: str) -> None:
    """Raise `InvalidRequest` for a request for a stream if the model doesn't stream on `endpoint`."""
    if endpoint not in model.streaming_endpoints:
        reject("stream", f"stream must be false for model {model.id}, which doesn't stream on this endpoint.")
