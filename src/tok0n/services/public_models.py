"""The facts about listed models that everybody may see: no provider, and no account's data."""

from collections.abc import Iterable, Sequence

import msgspec

from tok0n.domain import latency
from tok0n.domain.catalogue import EndpointState, Model, ModelState, StreamState
from tok0n.domain.errors import NotFound
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.model_days import DAYS_KEPT, LATENCY_DAYS, REQUESTS_MIN, ModelDay
from tok0n.domain.outcomes import percentiles
from tok0n.domain.packs import Pack
from tok0n.ports.clock import Clock
from tok0n.ports.model_days import ModelDays
from tok0n.services.catalogue import Catalogue


class PublicCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The latest verification of a model on an endpoint, or that of a stream. Only streams have `first_event_ms`."""

    endpoint: str
    is_stream: bool
    passed: bool
    latency_ms: int | None
    first_event_ms: int | None


class PublicModel(msgspec.Struct, frozen=True, kw_only=True):
    """A listed model. The latencies are None if it had fewer than `REQUESTS_MIN` requests in `LATENCY_DAYS` days.

    `days` are the last `DAYS_KEPT` days, oldest first, with the availability in thousandths, or None without data.
    `checks` are the results of the latest verification, at `checked_at_us`.
    `cents_per_million` is the lowest price of a million tokens of its class, or None if none are sold.
    """

    model: Model
    p50_ms: int | None
    p95_ms: int | None
    days: list[int | None]
    checks: list[PublicCheck]
    checked_at_us: int | None
    cents_per_million: int | None

    @property
    def availability_permille(self) -> int | None:
        """The mean of the days with data, rounded down."""
        measured = [day for day in self.days if day is not None]
        return sum(measured) // len(measured) if measured else None

    @property
    def first_event_ms(self) -> int | None:
        """The time to the first event of the stream that was fastest to begin in the latest verification."""
        return min((check.first_event_ms for check in self.checks if check.first_event_ms is not None), default=None)

    @property
    def inputs(self) -> list[str]:
        """What a request may contain."""
        model = self.model
        kinds = (
            ("images", model.image_tokens_max),
            ("audio", model.audio_tokens_max),
            ("files", model.file_tokens_max),
        )
        return ["text", *(name for name, tokens in kinds if tokens is not None)]


class PublicModels:
    """Describes the listed models, in the order of the settings."""

    def __init__(self, catalogue: Catalogue, model_days: ModelDays, clock: Clock, *, packs: Sequence[Pack]) -> None:
        self._catalogue = catalogue
        self._model_days = model_days
        self._clock = clock
        self._packs = packs

    async def list_all(self) -> list[PublicModel]:
        """Return every listed model."""
        models = (self._catalogue.find(listed.id) for listed in self._catalogue.listed())
        return await self._describe([model for model in models if model is not None])

    async def get(self, model_id: str) -> PublicModel:
        """Return one listed model. Raises `NotFound`."""
        model = self._catalogue.find(model_id)
        if model is None:
            raise NotFound("There is no such model.")
        return (await self._describe([model]))[0]

    async def _describe(self, models: Iterable[Model]) -> list[PublicModel]:
        today = self._clock.now_us() // MICROSECONDS_PER_DAY
        first = today - DAYS_KEPT + 1
        days: dict[str, dict[int, ModelDay]] = {}
        for day in await self._model_days.days(first_day=first):
            days.setdefault(day.model, {})[day.day] = day
        return [self._facts(model, days.get(model.id, {}), first=first, today=today) for model in models]

    def _facts(self, model: Model, days: dict[int, ModelDay], *, first: int, today: int) -> PublicModel:
        latencies = (day.latencies for day in days.values() if day.day > today - LATENCY_DAYS)
        measured = percentiles(sum(map(latency.pack, latencies)))
        if measured is not None and measured.requests < REQUESTS_MIN:
            measured = None
        state = self._catalogue.state(model.id)
        prices = [pack.cents_per_million for pack in self._packs if pack.token_class == model.token_class]
        return PublicModel(
            model=model,
            p50_ms=None if measured is None else measured.p50_ms,
            p95_ms=None if measured is None else measured.p95_ms,
            days=[days[day].availability_permille if day in days else None for day in range(first, today + 1)],
            checks=_checks(state),
            checked_at_us=state.checked_at_us,
            cents_per_million=min(prices, default=None),
        )


def _checks(state: ModelState) -> list[PublicCheck]:
    """Return the results of each endpoint, followed by that of its stream."""
    results: list[tuple[str, EndpointState | StreamState]] = []
    for name, endpoint in state.endpoints.items():
        results.append((name, endpoint))
        if name in state.streams:
            results.append((name, state.streams[name]))
    return [_check(name, result) for name, result in results]


def _check(endpoint: str, result: EndpointState | StreamState) -> PublicCheck:
    passed = not result.consecutive_failures
    first_event_ms = result.first_event_ms if isinstance(result, StreamState) else None
    return PublicCheck(
        endpoint=endpoint,
        is_stream=isinstance(result, StreamState),
        passed=passed,
        latency_ms=result.latency_ms if passed else None,
        first_event_ms=first_event_ms if passed else None,
    )
