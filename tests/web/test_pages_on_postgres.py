"""The pages on PostgreSQL: every one of them, for a customer who has done everything once."""

import asyncio
import secrets
from pathlib import Path

import pytest
from starlette.routing import Route

from support import postgres
from support.api_keys import keys_of
from support.gateways import running
from support.http import USAGE_TOTAL, chat, chat_body
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import join, mail_settings
from support.visitor import Visitor, text_of

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"

OPENED_BY_LINKS = {"/verify", "/new-password", "/invitation", "/set-up", "/new-address"}
REDIRECTS = {"/sign-in", "/second-factor"}
FILES = {"/assets/{name}", "/favicon.ico", "/robots.txt"}


async def test_every_page_works_on_postgres(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> None:
    cluster = await asyncio.to_thread(postgres.shared_cluster)
    overrides = {"database.url": await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")}
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox), overrides=overrides) as site,
        Visitor(site.url) as visitor,
    ):
        await join(visitor, mailbox, ADA)
        await site.store.accounts.grant(email=ADA, tokens=1_000, reason="welcome", now_us=site.clock.now_us())
        made = await visitor.post(
            "/dashboard/keys", {"name": "k", "budget_tokens": "1000", "budget_period": "day", "models": "demo"}
        )
        key = next(word for word in text_of(made).split() if word.startswith("tk0n_"))
        answer = await chat(site.base_url, key, chat_body())
        assert answer.status == 200
        for fields in (
            {"change": "threshold", "threshold": "999"},
            {"change": "time_zone", "time_zone": "Asia/Kolkata"},
        ):
            assert (await visitor.post("/dashboard/settings", fields)).status_code == 303
        known = (await keys_of(site.store.accounts, ADA))[0]
        request_id = answer.headers["x-request-id"]
        for route in site.routes:
            if isinstance(route, Route) and "GET" in (route.methods or ()) and route.path not in FILES:
                path = (
                    route.path_format.format(
                        key=known.id, request=request_id, order="", number="", slug="billing", model="demo"
                    ).rstrip("/")
                    or "/"
                )
                if "/orders//" in path:
                    continue
                is_redirect = path in REDIRECTS or path.endswith("/first-request")
                expected = 303 if is_redirect else 410 if path in OPENED_BY_LINKS else 200
                assert (await visitor.get(path)).status_code == expected, path
        for status in ("settled", "released", "expired", "pending"):
            page = await visitor.get(f"/dashboard/requests?status={status}&model=demo&key={known.id}&last=7d")
            assert (request_id in page.text) == (status == "settled"), status
        assert f"{1_000 - USAGE_TOTAL:,}" in (await visitor.get("/dashboard/statement")).text
        await site.caller_cache.flush_last_used()
        assert (await keys_of(site.store.accounts, ADA))[0].last_used_at_us is not None
        await site.sign_in.delete_expired()
        assert (await visitor.post("/sign-out", {"everywhere": "1"}, page="/dashboard/settings")).status_code == 303
        assert await site.audit_is_clean()
