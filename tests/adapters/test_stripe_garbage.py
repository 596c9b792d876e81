"""Signed events that make no sense: each is kept, alarmed once and never tried again; no other event waits for it."""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from support.fakes import FakeClock
from support.http import request
from support.ledgers import ENGINES, Opened, open_engine, schema
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.stripe import EVENT_TYPES, StripePayments, event_of
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.errors import AccountingFailed
from tok0n.domain.orders import OpenedOrder, Order
from tok0n.domain.packs import Pack
from tok0n.domain.payments import NotApplicable
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind
from tok0n.services.alarms import ALARMS_MAX
from tok0n.services.payments import SellPacks
from tok0n.web.stripe_webhook import RejectedWebhooks, stripe_route

pytestmark = pytest.mark.anyio

KEY, SECRET = "sk_test_double", "whsec_of_the_double"
PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)
ROUNDS = 20


class Shop:
    """A webhook in front of a database. Its clock stands still: alarms are never too old to count."""

    def __init__(self, db: Opened) -> None:
        self.db = db
        self.orders = SqlOrders(db.store)
        self.inbox = SqlInbox(db.store)
        self.double = StripeDouble(secret_key=KEY, webhook_secret=SECRET)
        self.clock = FakeClock(now_us=SystemClock().now_us())
        self.refusals = RejectedWebhooks()
        payments = StripePayments(
            secret_key=KEY, webhook_secret=SECRET, automatic_tax=False, promotion_codes=False, api_base="http://none"
        )
        self.sell = SellPacks(
            packs={PACK.id: PACK},
            orders=self.orders,
            payments=payments,
            inbox=self.inbox,
            forms=SqlForms(db.store),
            clock=self.clock,
            url_of=lambda path: f"http://shop.example{path}",
        )
        self.url = ""

    async def order(self) -> Order:
        account = await self.db.accounts.get("a@x")
        opened: OpenedOrder = await self.orders.open(
            account_id=account.id, pack=PACK, currency="usd", now_us=self.clock.now_us()
        )
        assert opened.order is not None
        return opened.order

    async def send(self, payload: bytes, signature: str | None = None) -> int:
        signed = self.double.sign(payload) if signature is None else signature
        return (await request(self.url, "POST", "/webhooks/stripe", payload, {"stripe-signature": signed})).status

    async def rounds(self) -> None:
        for _ in range(ROUNDS):
            await self.sell.handle_all()
            self.clock.advance(5)

    async def events(self) -> list[dict[str, Any]]:
        return await self.db.rows(schema.payment_event)


@contextlib.asynccontextmanager
async def open_shop(engine: str, folder: Path) -> AsyncIterator[Shop]:
    async with open_engine(engine, folder) as db:
        await db.accounts.create(email="a@x", tokens=0, now_us=1)
        shop = Shop(db)
        app = Starlette(routes=[stripe_route(shop.sell, shop.refusals)])
        async with HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=5) as server:
            shop.url = server.url
            yield shop


@pytest.fixture(params=ENGINES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(request.param, tmp_path) as shop:
        yield shop


def completed(order_id: str, **changes: Any) -> dict[str, Any]:
    """The event that says that an order is paid, with some of its checkout's fields changed."""
    session = {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "payment",
        "url": None,
        "client_reference_id": order_id,
        "metadata": {"tok0n_order": order_id},
        "payment_intent": "pi_1",
        "payment_status": "paid",
        "status": "complete",
        "amount_subtotal": 500,
        "amount_total": 500,
        "currency": "usd",
        "livemode": False,
    }
    data = {"object": session | changes}
    return {"id": "evt_1", "type": "checkout.session.completed", "created": 1_800_000_000, "data": data}


def without(name: str) -> dict[str, Any]:
    event = completed("ord_1")
    del event["data"]["object"][name]
    return event


def charge(**changes: Any) -> dict[str, Any]:
    thing = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "amount_refunded": 1, "currency": "usd"}
    thing |= {"livemode": False, "metadata": {"tok0n_order": "ord_1"}} | changes
    return completed("") | {"type": "charge.refunded", "data": {"object": thing}}


def dispute(**changes: Any) -> dict[str, Any]:
    thing = {"id": "dp_1", "object": "dispute", "payment_intent": "pi_1", "amount": 500, "currency": "usd"}
    thing |= {"livemode": False, "status": "lost"} | changes
    return completed("") | {"type": "charge.dispute.closed", "data": {"object": thing}}


NEVER_APPLICABLE: dict[str, dict[str, Any]] = {
    "a total of 2^70": completed("ord_1", amount_total=2**70),
    "a total of 2^63": completed("ord_1", amount_total=2**63),
    "a negative total": completed("ord_1", amount_total=-500),
    "a negative subtotal": completed("ord_1", amount_subtotal=-1),
    "a total with decimals": completed("ord_1", amount_total=500.5),
    "a total as text": completed("ord_1", amount_total="500"),
    "a total that is true": completed("ord_1", amount_total=True),
    "no total": completed("ord_1", amount_total=None),
    "an absurd currency": completed("ord_1", currency="US DOLLARS"),
    "a currency of NUL": completed("ord_1", currency="us\0"),
    "a currency that is a list": completed("ord_1", currency=["usd"]),
    "NUL in the order": completed("ord_\0"),
    "a huge order": completed("x" * 100_000),
    "NUL in the checkout": completed("ord_1", id="cs_\0"),
    "NUL in the payment": completed("ord_1", payment_intent="pi_\0"),
    "an expanded payment without an id": completed("ord_1", payment_intent={"object": "payment_intent"}),
    "an expanded payment with a list as id": completed("ord_1", payment_intent={"id": ["pi_1"]}),
    "a line break in the payment": completed("ord_1", payment_intent="pi_1\n"),
    "a status that is an object": completed("ord_1", payment_status={"paid": 1}),
    "a mode that is text": completed("ord_1", livemode="false"),
    "a URL with NUL": completed("ord_1", url="https://x/\0"),
    "a URL of a script": completed("ord_1", url="javascript:alert(1)"),
    **{f"without {name}": without(name) for name in completed("")["data"]["object"] if name != "metadata"},
    "no object": completed("ord_1") | {"data": {}},
    "an object that is text": completed("ord_1") | {"data": {"object": "x"}},
    "an object that is null": completed("ord_1") | {"data": {"object": None}},
    "data that is a list": completed("ord_1") | {"data": []},
    "no data": completed("ord_1") | {"data": None},
    "a time of 2^70": completed("ord_1") | {"created": 2**70},
    "a time of -1": completed("ord_1") | {"created": -1},
    "a time as text": completed("ord_1") | {"created": "now"},
    "no time": completed("ord_1") | {"created": None},
    "a type with NUL": completed("ord_1") | {"type": "a\0"},
    "a huge type": completed("ord_1") | {"type": "a" * 100_000},
    "a type that is a number": completed("ord_1") | {"type": 7},
    "a refund of 2^70": charge(amount_refunded=2**70),
    "a negative refund": charge(amount_refunded=-1),
    "a refund with metadata that are a list": charge(metadata=[1]),
    "a refund with metadata that are text": charge(metadata="x"),
    "a refund with an order that is a number": charge(metadata={"tok0n_order": 5}),
    "a dispute of 2^70": dispute(amount=2**70),
    "a dispute with a NUL id": dispute(id="dp\0"),
    "a dispute with a status that is a list": dispute(status=[]),
}


@pytest.mark.parametrize("event", NEVER_APPLICABLE.values(), ids=NEVER_APPLICABLE)
def test_garbage_is_recognized_before_it_reaches_the_database(event: dict[str, Any]) -> None:
    read = event_of(event, now_us=1)
    assert isinstance(read.fact, NotApplicable)
    assert read.id == "evt_1"


async def test_garbage_is_kept_alarmed_once_and_never_tried_again(shop: Shop) -> None:
    order = await shop.order()
    with structlog.testing.capture_logs() as lines:
        for number, event in enumerate(NEVER_APPLICABLE.values()):
            assert await shop.send(json.dumps(event | {"id": f"evt_{number}"}).encode()) == 200, event
        await shop.rounds()
        good = json.dumps(completed(order.id) | {"id": "evt_good"}).encode()
        assert await shop.send(good) == 200
        await shop.rounds()
    kept = await shop.events()
    assert len(kept) == len(NEVER_APPLICABLE) + 1
    assert all(event["handled_at_us"] for event in kept)
    assert [event["id"] for event in kept if not event["failure"]] == ["evt_good"]
    assert (await shop.db.accounts.get("a@x")).balance.posted == PACK.tokens
    assert [line for line in lines if line.get("exc_info")] == []
    alarms = [line for line in lines if line["event"] == "payment_alarm"]
    assert len(alarms) == len({line["payment_event"] for line in alarms}) == ALARMS_MAX, "the rate is bounded"


async def test_metadata_of_any_size_and_depth_that_are_not_ours_do_no_harm(shop: Shop) -> None:
    order = await shop.order()
    metadata: dict[str, Any] = {"x" * 100: "y" * 100_000, "\0": "\0", "tok0n_order": [2**70]}
    event = completed(order.id, metadata=metadata, amount_details={"discount": 2**70})
    assert await shop.send(json.dumps(event).encode()) == 200
    await shop.sell.handle_all()
    assert (await shop.db.accounts.get("a@x")).balance.posted == PACK.tokens


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"\0", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b"null", 400),
        (b'{"id": null}', 400),
        (b'{"id": "evt_\\u0000"}', 400),
        (b'{"id": "\\ud800"}', 400),
        (b'{"id": "evt_1"', 400),
        (b'{"id": "' + b"e" * 300 + b'"}', 400),
        (b"[" * 100_000, 400),
        (b'{"id":' * 100_000, 400),
        (b'{"id": "evt_1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b"x" * 2_000_000, 413),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
async def test_a_signed_body_that_is_no_event_is_a_clean_400(shop: Shop, body: bytes, status: int) -> None:
    with structlog.testing.capture_logs() as lines:
        assert await shop.send(body) == status
    assert await shop.events() == []
    assert {line["event"] for line in lines} <= {"webhooks_rejected"}


@pytest.mark.parametrize(
    "signature",
    [
        "t=" + "9" * 900,
        "t=" + "9" * 5_000 + ",v1=0",
        "t=1," + "v1=0," * 10_000,
        "t=-1,v1=0",
        "t=inf,v1=0",
        "t==,v1==",
        ",",
        "=",
        "v1=0",
        "t=1,v1=\xe9",
        " ",
    ],
    ids=lambda value: value[:20],
)
async def test_an_absurd_signature_is_a_clean_400(shop: Shop, signature: str) -> None:
    with structlog.testing.capture_logs() as lines:
        assert await shop.send(b"{}", signature) == 400
    assert {line["event"] for line in lines} <= {"webhooks_rejected"}


async def test_a_webhook_whose_sender_leaves_makes_no_traceback(shop: Shop) -> None:
    with structlog.testing.capture_logs() as lines:
        host, port = shop.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await shop.send(b"{}") == 400, "it answers others"
    assert {line["event"] for line in lines} <= {"webhooks_rejected"}


async def test_a_database_that_fails_after_an_event_was_kept_makes_no_traceback(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await shop.order()

    async def away(**_: object) -> None:
        raise AccountingFailed(upstream_called=False, detail="the database is away")

    monkeypatch.setattr(shop.inbox, "unhandled", away)
    with structlog.testing.capture_logs() as lines:
        assert await shop.send(json.dumps(completed(order.id)).encode()) == 200
        while not lines:
            await asyncio.sleep(0)
    assert [line["event"] for line in lines] == ["payment_events_delayed"]
    monkeypatch.undo()
    await shop.sell.handle_all()
    assert (await shop.db.accounts.get("a@x")).balance.posted == PACK.tokens


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=10), children, max_size=3),
    max_leaves=10,
)
_EVENTS = [completed("ord_1"), charge(), dispute(), completed("") | {"type": "refund.failed"}]


@st.composite
def garbage(draw: st.DrawFn) -> dict[str, Any]:
    """An event of Stripe, some of whose values are anything, and some of which are missing."""
    event: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(_EVENTS)))
    event["type"] = draw(st.sampled_from(EVENT_TYPES))
    for _ in range(draw(st.integers(1, 4))):
        thing = draw(st.sampled_from([event, event["data"]["object"]]))
        name = draw(st.sampled_from(sorted(thing)))
        if thing is event and name in {"id", "data"}:
            continue
        if draw(st.booleans()):
            thing[name] = draw(_JSON)
        else:
            del thing[name]
            if not thing:
                break
    return event


async def play(shop: Shop, events: list[dict[str, Any]]) -> None:
    """Send events as Stripe would, and see what became of every event that was ever sent."""
    known = len(await shop.events())
    with structlog.testing.capture_logs() as lines:
        for number, event in enumerate(events):
            body = json.dumps(event | {"id": f"evt_{known}_{number}"}).encode()
            assert await shop.send(body) == 200, event
        await shop.sell.handle_all()
    assert [line for line in lines if line.get("exc_info")] == []
    for event in await shop.events():
        waits_for_its_order = "No order has the payment" in str(event["failure"]) or "no such order" in str(
            event["failure"]
        )
        assert event["handled_at_us"] or waits_for_its_order, event
    assert (await shop.db.accounts.get("a@x")).balance.posted == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_no_signed_event_is_tried_for_ever_or_makes_a_traceback(engine: str, tmp_path: Path) -> None:
    opened = open_shop(engine, tmp_path)
    with asyncio.Runner() as runner:
        shop = runner.run(opened.__aenter__())

        @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
        @given(st.lists(garbage(), min_size=1, max_size=3))
        def run(events: list[dict[str, Any]]) -> None:
            runner.run(play(shop, events))

        run()
        runner.run(opened.__aexit__(None, None, None))
