"""The models that customers can call now: what the file declares, and what the database remembers of it."""

from collections.abc import Mapping

import msgspec

from tok0n.domain.catalogue import Model, ModelState, is_due, is_listed, is_verified
from tok0n.domain.errors import NotFound
from tok0n.ports.catalogue import Models


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model as `GET /v1/models` shows it."""

    id: str
    created: int
    owned_by: str


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One model as the operator sees it."""

    id: str
    upstream: str
    upstream_model: str
    listed: bool
    enabled: bool
    verified: bool
    state: ModelState


class Catalogue:
    """Answers from memory; `refresh` reads again what other processes may have changed."""

    def __init__(self, declared: Mapping[str, Model], models: Models) -> None:
        self._declared = declared
        self._models = models
        self._states: dict[str, ModelState] = {}
        self._listed: dict[str, Model] = {}

    async def refresh(self) -> None:
        """Read the states again."""
        self._states = await self._models.states()
        self._listed = {id_: model for id_, model in self._declared.items() if is_listed(model, self._state(id_))}

    def find(self, model_id: str) -> Model | None:
        """The model of this id if it is listed now."""
        return self._listed.get(model_id)

    def listed(self) -> list[ListedModel]:
        """The models that can be called now, in the order of their declaration."""
        return [self._shown(model) for model in self._listed.values()]

    def listed_model(self, model_id: str) -> ListedModel | None:
        """One model of the list."""
        model = self._listed.get(model_id)
        return None if model is None else self._shown(model)

    def declared(self, model_id: str) -> Model:
        """A model of the file, listed or not. Raises `NotFound`."""
        try:
            return self._declared[model_id]
        except KeyError:
            known = ", ".join(self._declared) or "none"
            raise NotFound(f"The settings declare no model {model_id!r}. Declared: {known}.") from None

    def due(self, *, now_us: int, interval_us: int) -> list[Model]:
        """The models that are to be verified now."""
        return [
            model
            for id_, model in self._declared.items()
            if is_due(model, self._state(id_), now_us=now_us, interval_us=interval_us)
        ]

    def reports(self) -> list[ModelReport]:
        """Every declared model with what is known of it."""
        return [
            ModelReport(
                id=id_,
                upstream=model.routes[0].upstream,
                upstream_model=model.routes[0].upstream_model,
                listed=id_ in self._listed,
                enabled=self._state(id_).enabled,
                verified=is_verified(model, self._state(id_)),
                state=self._state(id_),
            )
            for id_, model in self._declared.items()
        ]

    def _state(self, model_id: str) -> ModelState:
        return self._states.get(model_id) or ModelState(id=model_id)

    def _shown(self, model: Model) -> ListedModel:
        verified_at_us = self._state(model.id).verified_at_us
        assert verified_at_us is not None, "only verified models are listed"
        return ListedModel(id=model.id, created=verified_at_us // 1_000_000, owned_by=model.owned_by)
