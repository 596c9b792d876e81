"""What the playground suggests: the model that the account used last, and a key that may call it."""

from collections.abc import Sequence

from tok0n.domain.accounts import ApiKey
from tok0n.domain.catalogue import Model
from tok0n.domain.history import RequestFilter
from tok0n.ports.accounts import History


async def suggest_model(history: History, account_id: str, models: Sequence[Model]) -> Model:
    """Return the model of the account's newest request, or else the first of `models`, which can't be empty."""
    newest = await history.requests(account_id, RequestFilter(), before=None, rows_max=1)
    return next((model for model in models if newest and model.id == newest[0].model), models[0])


def suggest_key(keys: Sequence[ApiKey], *, endpoint: str, model: str) -> ApiKey | None:
    """Return the key used last of those that may call the model, or else of all keys. None without keys."""
    allowed = [key for key in keys if may_call(key, endpoint=endpoint, model=model)]
    return max(allowed or keys, key=lambda key: key.last_used_at_us or 0, default=None)


def may_call(key: ApiKey, *, endpoint: str, model: str) -> bool:
    """Whether the limits of a key allow a model and an endpoint."""
    models, endpoints = key.limits.models, key.limits.endpoints
    return (models is None or model in models) and (endpoints is None or endpoint in endpoints)
