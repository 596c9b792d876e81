"""More calls than can be accounted for in time: refused at once, and nothing of those that are taken is lost."""

import asyncio
from pathlib import Path

import pytest

from support.gateways import EMAIL, running
from support.http import InstantUpstream, chat, chat_body

pytestmark = pytest.mark.anyio

CALLS = 60


async def test_a_gateway_without_room_refuses_before_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with InstantUpstream() as upstream, running(tmp_path, upstream_url=upstream.base_url) as gateway:
        monkeypatch.setattr("tok0n.adapters.sql.sqlite.ledger.RESERVATIONS_WAITING_MAX", 0)
        answer = await chat(gateway.base_url, "no key at all", b"no JSON at all")
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["content-type"] == "application/json"
        assert "You were not charged." in answer.error["message"]
        monkeypatch.undo()
        assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200


@pytest.mark.parametrize(
    "limits",
    [
        {"tok0n.adapters.sql.sqlite.ledger.RESERVATIONS_WAITING_MAX": 2},
        {
            "tok0n.http.pacing.QUEUE_LENGTH_WHILE_SHEDDING_MAX": 2,
            "tok0n.http.pacing.QUEUE_DELAY_SECONDS_MAX": 0,
            "tok0n.http.pacing.ITEMS_PER_TICK": 1,
        },
    ],
    ids=["for the database", "for their turn"],
)
async def test_each_of_many_at_once_is_charged_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(name, limit)
    async with InstantUpstream() as upstream, running(tmp_path, upstream_url=upstream.base_url) as gateway:
        before = (await gateway.store.accounts.get(EMAIL)).balance
        answers = await asyncio.gather(*(chat(gateway.base_url, gateway.api_key, chat_body()) for _ in range(CALLS)))
        charged = [int(answer.headers["x-tok0n-charged"]) for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status == 503]
        assert charged
        assert refused
        assert len(charged) + len(refused) == CALLS
        balance = (await gateway.store.accounts.get(EMAIL)).balance
        assert (balance.posted, balance.pending) == (before.posted - sum(charged), 0)
        assert (await gateway.store.ledger.audit()).ok
