"""The pages of the guide, and their Markdown with this server's URL, models, endpoints and limits.

The files are in docs/, where they are also read without a server. A passage that depends on the server has markers,
which are HTML comments:

- `<!--=NAME-->text<!--/-->`: the value `NAME` of this server replaces the text.
- `<!--if NAME-->text<!--/if-->`: the text is removed unless `NAME` is one of this server's features.

The chapter `For operators` of a file is not part of the guide.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

import tok0n
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.services.catalogue import Catalogue

WRITTEN_URL = "http://127.0.0.1:8080"
"""The public URL in the files, which the guide replaces with this server's."""

WRITTEN_BASE_URL = f"{WRITTEN_URL}/v1"

WRITTEN_NAME = "Tok0n"
"""The name of the service in the files, which the guide replaces with the site's."""

WRITTEN_MODEL = "demo"
"""The model in the files, which the guide replaces with a listed one."""

_PACKAGE = Path(tok0n.__file__).parent
_FOLDERS = (_PACKAGE / "docs", _PACKAGE.parent.parent / "docs")
"""The paths of docs/ in an installed package and in a checkout."""

VALUE = re.compile(r"<!--=(\w+)-->(.*?)<!--/-->", re.DOTALL)
FEATURE = re.compile(r"<!--if (\w+)-->\n?(.*?)<!--/if-->\n?", re.DOTALL)
_FOR_OPERATORS = re.compile(r"^## For operators\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


class GuidePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the guide. `endpoint` names the endpoint that its examples call; `streams`: they ask for streams."""

    slug: str
    title: str
    file: str
    about: str
    endpoint: str = ""
    streams: bool = False


GUIDE = (
    GuidePage(
        slug="quickstart",
        title="Quick start",
        file="guide/quickstart.md",
        about="from sign-up to first response",
        endpoint="chat",
    ),
    GuidePage(slug="endpoints", title="Endpoints", file="guide/endpoints.md", about="every path and its parameters"),
    GuidePage(
        slug="streaming",
        title="Streaming",
        file="guide/streaming.md",
        about="how streams end and what they cost",
        endpoint="chat",
        streams=True,
    ),
    *(
        GuidePage(
            slug=endpoint.name,
            title=endpoint.name.capitalize(),
            file=f"guide/{endpoint.name}.md",
            about=endpoint.guide_topic,
            endpoint=endpoint.name,
        )
        for endpoint in ENDPOINTS
        if endpoint.guide_topic
    ),
    GuidePage(
        slug="recipes",
        title="Recipes",
        file="guide/recipes.md",
        about="examples for SDKs and tools",
        endpoint="chat",
    ),
    GuidePage(
        slug="billing", title="Billing", file="billing.md", about="how tokens are reserved, billed, and released"
    ),
    GuidePage(
        slug="limits",
        title="Limits",
        file="limits.md",
        about="limits, how they're measured, and what clients see",
    ),
    GuidePage(slug="errors", title="Errors", file="errors.md", about="every error code and how to fix it"),
    GuidePage(slug="faq", title="FAQ", file="guide/faq.md", about="frequently asked questions"),
)
BY_SLUG = {page.slug: page for page in GUIDE}
_BY_FILE = {Path(page.file).name: page for page in GUIDE if "guide" in page.file} | {
    page.file: page for page in GUIDE if "guide" not in page.file
}
_ENDPOINT = {endpoint.name: endpoint for endpoint in ENDPOINTS}


class Guide:
    """The guide of one server. `values` and `features` are what the markers in the files name."""

    def __init__(
        self,
        *,
        site_name: str,
        public_url: str,
        catalogue: Catalogue,
        endpoints: Sequence[Endpoint],
        values: Mapping[str, str],
        features: Collection[str],
    ) -> None:
        self.pages = guide_of(endpoints)
        self._site_name = site_name
        self._public_url = public_url
        self._catalogue = catalogue
        self._endpoints = endpoints
        self._values = values
        self._features = features

    def text(self, page: GuidePage) -> str:
        """Return the Markdown of a page for this server."""
        values = {**self._values, "streaming_models": self._streaming_models()}
        text = fill(read(page), values, self._features)
        text = _without_missing_paths(text, self._endpoints).replace(WRITTEN_NAME, self._site_name)
        return _with_model(text, page, self._catalogue).replace(WRITTEN_URL, self._public_url)

    def neighbors(self, page: GuidePage) -> tuple[GuidePage | None, GuidePage | None]:
        """Return the pages before and after a page."""
        if page not in self.pages:
            return None, None
        index = self.pages.index(page)
        before = self.pages[index - 1] if index else None
        return before, self.pages[index + 1] if index + 1 < len(self.pages) else None

    def _streaming_models(self) -> str:
        ids = [f"`{model.id}`" for model in self._catalogue.listed() if model.streaming_endpoints]
        return f"These models stream: {', '.join(ids)}." if ids else "No model of this server streams now."


def guide_of(endpoints: Sequence[Endpoint]) -> list[GuidePage]:
    """Return the pages of the guide, without those on an endpoint whose path doesn't exist."""
    names = {endpoint.name for endpoint in endpoints}
    return [page for page in GUIDE if not page.endpoint or page.endpoint in names]


def page_of_file(path: str) -> GuidePage | None:
    """Return the page that a link between files points to. None if the file is not part of the guide."""
    return _BY_FILE.get(Path(path).name)


def fill(text: str, values: Mapping[str, str], features: Collection[str]) -> str:
    """Replace the markers in the text of a file, and remove its chapter for operators."""
    text = _FOR_OPERATORS.sub("", text)
    text = FEATURE.sub(lambda match: match[2] if match[1] in features else "", text)
    return VALUE.sub(lambda match: values[match[1]], text)


def _without_missing_paths(text: str, endpoints: Sequence[Endpoint]) -> str:
    """Remove the table rows of metered endpoints whose paths don't exist."""
    missing = tuple(f"| `POST {endpoint.path}` |" for endpoint in ENDPOINTS if endpoint not in endpoints)
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(missing))


def _with_model(text: str, page: GuidePage, catalogue: Catalogue) -> str:
    """Put a model that serves the endpoint of the page into its examples. Without one, the page says so first."""
    if not page.endpoint:
        return text
    models = catalogue.models_serving(_ENDPOINT[page.endpoint])
    if models:
        streaming = [model for model in models if page.streams and page.endpoint in model.streaming_endpoints]
        model_id = (streaming or models)[0].id
        return re.sub(rf"\b{WRITTEN_MODEL}\b", lambda _: model_id, text)
    served = [f"`POST {endpoint.path}`" for endpoint in ENDPOINTS if catalogue.models_serving(endpoint)]
    title, _, rest = text.partition("\n")
    path = _ENDPOINT[page.endpoint].path
    return (
        f"{title}\n\n> No model of this server serves `POST {path}` now, so the examples on this page don't work here."
        f" Its models serve: {', '.join(served) or 'none'}.\n{rest}"
    )


@cache
def read(page: GuidePage) -> str:
    """Return the Markdown of a page, as it is in its file."""
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    return (folder / page.file).read_text("utf-8")
