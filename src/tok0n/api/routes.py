"""GET /v1/models and GET /v1/models/{id}, and the errors for paths and methods that don't exist."""

import re
from collections.abc import Sequence

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.api.errors import STATUSES, error_body
from tok0n.domain.errors import UnknownModel
from tok0n.services.catalogue import Catalogue, ListedModel

_OPENAI_PATHS = (
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/completions",
    "/embeddings",
    "/images/edits",
    "/images/generations",
    "/images/variations",
    "/moderations",
    "/responses",
)
"""Paths of OpenAI's API that Tok0n doesn't serve, to recognize clients with a wrong base URL."""

_REPEATED_BASE = re.compile(r"/v1/(?:.*/)?v1/")


def models_api_routes(catalogue: Catalogue) -> list[Route]:
    """Return the routes of GET /v1/models and GET /v1/models/{id}. They need no API key."""

    async def list_models(_: Request) -> Response:
        return _json({"object": "list", "data": [_body(model) for model in catalogue.listed()]})

    async def get_model(request: Request) -> Response:
        model_id = request.path_params["model"]
        model = catalogue.listed_model(model_id)
        if model is None:
            return error("model_not_found", UnknownModel(model_id).message, param="model")
        return _json(_body(model))

    return [Route("/v1/models", list_models), Route("/v1/models/{model:path}", get_model)]


def api_http_error(request: Request, raised: HTTPException, *, base_url: str, api_paths: Sequence[str]) -> Response:
    """Return the JSON response to a path or a method that doesn't exist. `api_paths` are all routes under /v1."""
    if raised.status_code == 400:
        response = error("invalid_request", raised.detail)
    elif raised.status_code == 426:
        response = error("upgrade_required", raised.detail)
    elif raised.status_code == 405:
        response = error("method_not_allowed", f"This path doesn't support {request.method}.")
    else:
        response = error("not_found", _no_such_path(request.scope["path"], base_url, api_paths))
    response.headers.update(raised.headers or {})
    return response


def _no_such_path(path: str, base_url: str, api_paths: Sequence[str]) -> str:
    served = [api_path.removeprefix("/v1").replace(":path", "") for api_path in api_paths]
    if is_api(path) and not _REPEATED_BASE.match(path):
        return f"Unknown endpoint. {base_url} serves {', '.join(served)}."
    if any(f"{endpoint.partition('/{')[0]}/" in f"{path}/" for endpoint in [*served, *_OPENAI_PATHS]):
        return f"Unknown endpoint. Set your client's base URL to {base_url}."
    return f"This path doesn't exist. The API's base URL is {base_url}."


def is_page_request(request: Request) -> bool:
    """Whether a browser requests a page, rather than a program or a script requesting data."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("accept", "").lower()


def error(code: str, message: str, *, param: str | None = None) -> Response:
    """Return an error response by its code in `errors.STATUSES`."""
    return Response(error_body(message=message, code=code, param=param), STATUSES[code], media_type="application/json")


def is_api(path: str) -> bool:
    """Whether errors of this path have OpenAI's shape."""
    return path == "/v1" or path.startswith("/v1/")


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _body(model: ListedModel) -> dict[str, object]:
    body: dict[str, object] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "token_class": model.token_class,
    }
    if model.endpoints is not None:
        body["endpoints"] = model.endpoints
    if model.streaming_endpoints is not None:
        body |= {"streams": bool(model.streaming_endpoints), "streaming_endpoints": model.streaming_endpoints}
    return body
