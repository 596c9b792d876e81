"""The upstream client under test, and its failures."""

import pytest

from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.errors import UpstreamFailed


def client(base_url: str, **more: object) -> HttpUpstream:
    options = {"name": "test", "base_url": base_url, "api_key": "sk-secret-123456", "timeout_seconds": 5.0}
    return HttpUpstream(**(options | more))  # type: ignore[arg-type]


async def failure(upstream: HttpUpstream) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as failed:
        await upstream.send("/chat/completions", b"{}")
    await upstream.aclose()
    assert "sk-secret" not in failed.value.message + failed.value.detail
    return failed.value
