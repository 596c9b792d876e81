"""A module of the package is all that a new endpoint needs in `src/`."""

import sys
from pathlib import Path

import pytest

from tok0n.domain import endpoints

RERANK = """
import msgspec
from tok0n.domain.endpoints.embeddings import EMBEDDINGS

RERANK = msgspec.structs.replace(
    EMBEDDINGS, name="rerank", path="/v1/rerank", upstream_path="/rerank", guide_topic="order"
)
"""


def test_every_endpoint_is_found_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rerank.py").write_text(RERANK)
    monkeypatch.setattr(endpoints, "__path__", [*endpoints.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tok0n.domain.endpoints.rerank", raising=False)
    found = {endpoint.name: endpoint.path for endpoint in endpoints.find()}
    assert found == {
        "chat": "/v1/chat/completions",
        "embeddings": "/v1/embeddings",
        "messages": "/v1/messages",
        "count_tokens": "/v1/messages/count_tokens",
        "rerank": "/v1/rerank",
        "responses": "/v1/responses",
    }
    monkeypatch.delitem(sys.modules, "tok0n.domain.endpoints.rerank")


def test_models_can_name_each_endpoint_that_is_not_served_with_another() -> None:
    assert list(endpoints.BY_NAME) == ["chat", "embeddings", "messages", "responses"]
