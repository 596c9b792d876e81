"""The public pages of models: facts that help to choose one, and nothing about providers or accounts."""

import pytest

from support.gateways import Running
from support.http import chat, chat_body
from support.visitor import Visitor, text_of

pytestmark = pytest.mark.anyio


async def test_the_pages_of_models_need_no_sign_in(site: Running, visitor: Visitor) -> None:
    listed = await visitor.get("/models")
    assert 'href="/models/demo"' in listed.text
    assert 'rel="canonical"' in listed.text
    page = await visitor.get("/models/demo")
    text = " ".join(text_of(page).split())
    assert "not enough requests in 7 days" in text
    assert "/v1/chat/completions" in text
    assert page.text.count("<title>") == 1 + 90, "one bar a day"
    assert (await visitor.get("/models/none/such")).status_code == 404
    assert "/models)" in (await visitor.get("/llms.txt")).text


async def test_the_pages_of_models_name_no_provider_and_no_account(site: Running, visitor: Visitor) -> None:
    await chat(site.base_url, site.api_key, chat_body())
    for path in ("/models", "/models/demo"):
        page = await visitor.get(path)
        for private in ("fake", "acct_", "key_", "@"):
            assert private not in page.text, (path, private)


async def test_the_page_of_a_model_has_the_latest_verification_of_each_endpoint(
    site: Running, visitor: Visitor
) -> None:
    text = " ".join(text_of(await visitor.get("/models/demo")).split())
    assert "Latest verification" in text
    assert "/v1/chat/completions Whole Passed" in text
    assert "First event" in text_of(await visitor.get("/models"))
