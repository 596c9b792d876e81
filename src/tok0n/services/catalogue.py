"""The models that customers can call now: declared in the settings, enabled, and verified in the database."""

from collections.abc import Mapping, Sequence

import msgspec

from tok0n.domain.catalogue import Model, ModelState, as_listed, is_due, is_listed, is_verified
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import NotFound
from tok0n.ports.catalogue import Models


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the response of `GET /v1/models`.

    `endpoints` is None unless a declared model has another endpoint than chat. `streaming_endpoints` is None unless
    streaming is switched on.
    """

    id: str
    created: int
    owned_by: str
    token_class: str
    endpoints: tuple[str, ...] | None = None
    streaming_endpoints: tuple[str, ...] | None = None


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a declared model, for the operator."""

    id: str
    upstream: str
    upstream_model: str
    token_class: str
    listed: bool
    enabled: bool
    verified: bool
    state: ModelState
    endpoints: tuple[str, ...]
    streaming_endpoints: tuple[str, ...]


class Catalogue:
    """Answers from memory. `refresh` loads the changes that other processes made.

    `stream_endpoints` names the endpoints on which models may stream: none unless streaming is switched on.
    """

    def __init__(self, declared: Mapping[str, Model], models: Models, *, stream_endpoints: Sequence[str] = ()) -> None:
        self._declared = declared
        self.stream_endpoints = stream_endpoints
        self._models = models
        self.has_endpoints = any(model.endpoints != ("chat",) for model in declared.values())
        """Whether a declared model has another endpoint than chat."""
        self._states: dict[str, ModelState] = {}
        self._listed: dict[str, Model] = {}

    async def refresh(self) -> None:
        """Load the state of all models from the database."""
        self._states = await self._models.states()
        self._listed = {
            id_: as_listed(model, self.state(id_), stream_endpoints=self.stream_endpoints)
            for id_, model in self._declared.items()
            if is_listed(model, self.state(id_))
        }

    def find(self, model_id: str) -> Model | None:
        """Return the model with this id, or None if it is not listed."""
        return self._listed.get(model_id)

    def is_declared(self, model_id: str) -> bool:
        """Whether the settings have this model, listed or not."""
        return model_id in self._declared

    def listed(self) -> list[ListedModel]:
        """Return the models that customers can call now, in the order of the settings."""
        return [self._to_listed(model) for model in self._listed.values()]

    def models_serving(self, endpoint: Endpoint) -> list[Model]:
        """Return the listed models that serve an endpoint, in the order of the settings."""
        return [model for model in self._listed.values() if endpoint.is_served_by(model)]

    def listed_model(self, model_id: str) -> ListedModel | None:
        """Return one listed model, or None if it is not listed."""
        model = self._listed.get(model_id)
        return None if model is None else self._to_listed(model)

    def get_declared(self, model_id: str) -> Model:
        """Return a declared model, whether listed or not. Raises `NotFound`."""
        try:
            return self._declared[model_id]
        except KeyError:
            declared = ", ".join(self._declared) or "none"
            raise NotFound(f"The settings declare no model {model_id!r}. Declared: {declared}.") from None

    def declared_models(self, model_ids: Sequence[str] = ()) -> list[Model]:
        """Return the declared models with these ids, or all if there are no ids. Raises `NotFound`."""
        return [self.get_declared(model_id) for model_id in model_ids or self._declared]

    async def set_enabled(self, model_id: str, *, enabled: bool) -> ModelReport:
        """Enable or disable a model. The catalogue lists an enabled model once it is verified. Raises `NotFound`."""
        self.get_declared(model_id)
        await self._models.set_enabled(model=model_id, enabled=enabled)
        await self.refresh()
        return self._report(model_id)

    def due_models(self, *, now_us: int, interval_us: int) -> list[Model]:
        """Return the models that are due for verification."""
        return [
            model
            for id_, model in self._declared.items()
            if is_due(
                model,
                self.state(id_),
                now_us=now_us,
                interval_us=interval_us,
                stream_endpoints=self.stream_endpoints,
            )
        ]

    def state(self, model_id: str) -> ModelState:
        """Return the state of a model. One without a stored state is unverified."""
        return self._states.get(model_id) or ModelState(id=model_id)

    def reports(self) -> list[ModelReport]:
        """Return the report of every declared model, in the order of the settings."""
        return [self._report(model_id) for model_id in self._declared]

    def _report(self, model_id: str) -> ModelReport:
        model, state, listed = self._declared[model_id], self.state(model_id), self._listed.get(model_id)
        return ModelReport(
            id=model_id,
            upstream=model.routes[0].upstream,
            upstream_model=model.routes[0].upstream_model,
            token_class=model.token_class,
            listed=listed is not None,
            enabled=state.enabled,
            verified=is_verified(model, state),
            state=state,
            endpoints=model.endpoints,
            streaming_endpoints=() if listed is None else listed.streaming_endpoints,
        )

    def _to_listed(self, model: Model) -> ListedModel:
        verified_at_us = self.state(model.id).verified_at_us
        assert verified_at_us is not None, "only verified models are listed"
        return ListedModel(
            id=model.id,
            created=verified_at_us // 1_000_000,
            owned_by=model.owned_by,
            token_class=model.token_class,
            endpoints=model.endpoints if self.has_endpoints else None,
            streaming_endpoints=model.streaming_endpoints if self.stream_endpoints else None,
        )
