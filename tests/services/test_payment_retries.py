"""Payment events that fail or wait: how often they are retried, and when the operator is alarmed."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa
import structlog

from support.fake_payments import FOREVER_US, PACK, Shop, disputed, event, page
from support.ledgers import NOW_US, schema
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.domain.documents import NO_ISSUER, Issuer
from tok0n.domain.errors import AccountingFailed
from tok0n.domain.orders import DisputeStatus, Order, Payment
from tok0n.domain.payments import NotApplicable
from tok0n.services.alarms import ALARMS_MAX

pytestmark = pytest.mark.anyio


class FailingOrders(SqlOrders):
    """Orders in a database that fails the next `failures` writes."""

    failures = 0
    error: Exception = AccountingFailed(upstream_called=False, detail="deadlock detected")

    async def record(
        self, order_id: str, facts: Payment, *, payment_id: str | None, now_us: int, issuer: Issuer = NO_ISSUER
    ) -> Order:
        if self.failures:
            self.failures -= 1
            raise self.error
        return await super().record(order_id, facts, payment_id=payment_id, now_us=now_us, issuer=issuer)


async def rounds(shop: Shop, *, seconds: float) -> None:
    """Handle events every 5 seconds, as a server does."""
    for _ in range(round(seconds / 5)):
        shop.clock.advance(5)
        await shop.sell.handle_all()


def failing(shop: Shop, *, failures: int, error: Exception | None = None) -> FailingOrders:
    orders = FailingOrders(shop.db.store)
    orders.failures = failures
    orders.error = error or orders.error
    shop.sell = shop.selling(orders=orders)
    return orders


@pytest.mark.parametrize("error", [None, ZeroDivisionError("a bug")], ids=["database", "bug"])
async def test_a_failing_event_is_retried_with_backoff_until_it_is_applied(shop: Shop, error: Exception | None) -> None:
    order = await shop.order()
    orders = failing(shop, failures=4, error=error)
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(event("1", page(order, is_paid=True)))
        await rounds(shop, seconds=5)
        assert orders.failures == 2, "after 0 and 5 seconds"
        await rounds(shop, seconds=10)
        assert orders.failures == 1, "after 15 seconds"
        await rounds(shop, seconds=60)
    assert await shop.posted() == PACK.tokens
    assert [line["attempts"] for line in lines if line["event"] == "payment_event_retried"] == [1, 2, 3, 4]
    assert [line for line in lines if line["event"] == "payment_alarm"] == []
    assert len([line for line in lines if line.get("exc_info")]) == (0 if error is None else 1)


async def test_an_event_that_always_fails_raises_two_alarms_and_ends_after_a_week(shop: Shop) -> None:
    order = await shop.order()
    orders = failing(shop, failures=10**6)
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(event("1", page(order, is_paid=True)))
        for _ in range(24 * 8):
            await rounds(shop, seconds=5)
            shop.clock.advance(3_600)
    attempts = 10**6 - orders.failures
    assert attempts < 200
    alarms = [line["why"] for line in lines if line["event"] == "payment_alarm"]
    assert len(alarms) == 2
    assert "5 attempts failed: deadlock detected" in alarms[0]
    assert "gave up" in alarms[1]
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []


async def test_an_event_that_waits_for_its_order_is_retried_less_and_less_often(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", disputed(order, DisputeStatus.OPEN), "charge.dispute.created"))
    await rounds(shop, seconds=3_600)
    (waiting,) = await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10)
    assert waiting.attempts < 30, "720 rounds were made"


async def test_many_inapplicable_events_raise_a_bounded_number_of_alarms(shop: Shop) -> None:
    with structlog.testing.capture_logs() as lines:
        for number in range(100):
            await shop.deliver(event(str(number), NotApplicable(why="it makes no sense")))
        shop.clock.advance(60)
        await shop.deliver(event("last", NotApplicable(why="it makes no sense")))
    alarms = [line for line in lines if line["event"] == "payment_alarm"]
    assert len(alarms) == ALARMS_MAX + 1
    assert alarms[-1]["suppressed"] == 100 - ALARMS_MAX
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=200) == []


async def test_two_processes_that_handle_one_event_raise_one_alarm(shop: Shop) -> None:
    other = Shop(shop.db)
    await shop.sell.receive(msgspec.json.encode(event("1", NotApplicable(why="no sense"))), "signed")
    with structlog.testing.capture_logs() as lines:
        await asyncio.gather(shop.sell.handle_all(), other.sell.handle_all())
    assert len([line for line in lines if line["event"] == "payment_alarm"]) == 1


async def test_a_stored_event_that_makes_no_sense_delays_no_other(shop: Shop) -> None:
    order = await shop.order()
    text = msgspec.json.encode(event("1", page(order, total_cents=-500))).decode()
    row = {"id": "evt_1", "type": "x", "event": text, "created_at_us": NOW_US, "received_at_us": NOW_US}
    await shop.db.store.write(lambda tx: tx.execute(sa.insert(schema.payment_event), row) and None)
    await shop.deliver(event("2", page(order, is_paid=True)))
    assert await shop.posted() == PACK.tokens
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
