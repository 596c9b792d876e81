"""An upstream's words never repeat what the settings send to it."""

import base64

import pytest

from tok0n.adapters.upstream.http import HttpUpstream

BASIC = base64.b64encode(b"gatekeeper:open sesame").decode()


@pytest.mark.parametrize(
    "echo", ["Xyz/9+w", "Xyz%2F9%2Bw", "gatekeeper", "open sesame", BASIC, "llm.corp.example", "proxy-word", "ApiKey-1"]
)
def test_no_part_of_a_configured_credential_is_shown(echo: str) -> None:
    upstream = HttpUpstream(
        name="u",
        base_url="https://llm.corp.example/v1",
        api_key="ApiKey-1",
        timeout_seconds=1,
        headers={"X-Auth": "Token Xyz/9+w", "X-Authorization": f"Basic {BASIC}"},
        proxy_url="http://walker:proxy-word@proxy.corp.example:3128",
    )
    assert upstream.scrub(f"Rejected: <{echo}>") == "Rejected: <[redacted]>"
