"""The small endpoints of /v1, and every other path beneath it: a wrong path answers in OpenAI's shape too."""

import re

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.api.errors import TABLE, error_body
from tok0n.services.catalogue import Catalogue, ListedModel

_ENDPOINT = re.compile(
    r"/(?:chat/completions|completions|models|embeddings|responses|moderations|images/\w+|audio/\w+|key|balance|requests)"
    r"(?:/|\Z)"
)
"""How paths of OpenAI's API and of ours look without /v1, or behind a prefix that is not ours."""

_REPEATED_BASE = re.compile(r"/v1/(?:.*/)?v1/")


def model_routes(catalogue: Catalogue) -> list[Route]:
    """GET /v1/models and GET /v1/models/{id}: public, and only what can be called now."""

    async def list_models(_: Request) -> Response:
        return _json({"object": "list", "data": [_shown(model) for model in catalogue.listed()]})

    async def get_model(request: Request) -> Response:
        model = catalogue.listed_model(request.path_params["model"])
        if model is None:
            return error("model_not_found", "There is no such model here. GET /v1/models lists them.", param="model")
        return _json(_shown(model))

    return [Route("/v1/models", list_models), Route("/v1/models/{model:path}", get_model)]


def api_http_error(request: Request, raised: HTTPException, *, base_url: str) -> Response:
    """The response to a path or a method that does not exist, for a program."""
    if raised.status_code == 400:
        answer = error("invalid_request", raised.detail)
    elif raised.status_code == 405:
        answer = error("method_not_allowed", f"{request.method} is not possible here.")
    else:
        answer = error("not_found", _no_such_path(request.scope["path"], base_url))
    answer.headers.update(raised.headers or {})
    return answer


def _no_such_path(path: str, base_url: str) -> str:
    if is_api(path) and not _REPEATED_BASE.match(path):
        return f"Unknown endpoint. {base_url} serves /chat/completions and /models."
    if _ENDPOINT.search(path):
        return f"Unknown endpoint. Set your client's base URL to {base_url}."
    return f"There is nothing at this path. The API's base URL is {base_url}."


def is_page_request(request: Request) -> bool:
    """Whether a browser asks for a page, and not a program or a script for data."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("accept", "").lower()


def error(code: str, message: str, *, param: str | None = None) -> Response:
    """An error answer by its code in `errors.TABLE`."""
    return Response(error_body(message=message, code=code, param=param), TABLE[code][0], media_type="application/json")


def is_api(path: str) -> bool:
    """Whether OpenAI's error shape is promised for this path."""
    return path == "/v1" or path.startswith("/v1/")


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _shown(model: ListedModel) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
