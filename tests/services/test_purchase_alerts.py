"""The owner of an account gets one email about each payment, with the number of the invoice or receipt."""

import pytest

from support.fake_payments import PACK, Shop, event, page
from support.ledgers import NOW_US
from tok0n.adapters.sql.repositories.notices import SqlPreferences
from tok0n.adapters.sql.repositories.purchase_emails import SqlPurchaseEmails
from tok0n.domain.documents import Issuer, Seller
from tok0n.domain.orders import CHECKOUT_LIFETIME_US, UnpaidReason
from tok0n.domain.payments import Declined
from tok0n.domain.token_classes import TokenClasses
from tok0n.ports.mail import MailBrand
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.purchase_alerts import PurchaseAlerts

pytestmark = pytest.mark.anyio


class FakeMailer:
    brand = MailBrand()

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.fails = False

    async def send(self, *, to: str, subject: str, text: str) -> None:
        if self.fails:
            raise ConnectionError
        self.sent.append((to, subject, text))


def alerts_of(shop: Shop, mailer: FakeMailer) -> PurchaseAlerts:
    store = shop.db.store
    preferences = NoticePreferences(SqlPreferences(store))
    return PurchaseAlerts(
        SqlPurchaseEmails(store), mailer, shop.clock, "https://tok0n.example".__add__, TokenClasses(), preferences
    )


async def test_each_payment_is_emailed_once_even_if_its_events_repeat_and_a_crash_sends_none_twice(shop: Shop) -> None:
    shop.sell = shop.selling(issuer=Issuer(seller=Seller(name="Example", address="1 Street", tax_id="GB1")))
    mailer = FakeMailer()
    alerts = alerts_of(shop, mailer)
    order = await shop.order()
    await alerts.notify()
    assert mailer.sent == []
    paid = page(order, is_complete=True, is_paid=True)
    await shop.deliver(event("1", paid), event("2", paid))
    await alerts.notify()
    await alerts.notify()
    ((to, subject, text),) = mailer.sent
    assert (to, subject) == ("a@x", "Your purchase: INV-2027-000001")
    assert "$5.00" in text
    assert "1 x Starter: 1,000 tokens" in text
    assert f"invoice INV-2027-000001: https://tok0n.example/dashboard/orders/{order.id}/documents/INV-2027-" in text
    second = await shop.order("b@x")
    await shop.deliver(event("3", page(second, is_complete=True, is_paid=True)))
    mailer.fails = True
    with pytest.raises(ConnectionError):
        await alerts.notify()
    mailer.fails = False
    await alerts_of(shop, mailer).notify()
    assert len(mailer.sent) == 1, "the process died after it had claimed the email"


async def test_an_owner_who_turned_purchase_emails_off_gets_none(shop: Shop) -> None:
    mailer = FakeMailer()
    order = await shop.order()
    await NoticePreferences(SqlPreferences(shop.db.store)).set_enabled_kinds(order.account_id, [])
    await shop.deliver(event("1", page(order, is_complete=True, is_paid=True)))
    await alerts_of(shop, mailer).notify()
    assert mailer.sent == []


async def test_a_declined_attempt_is_recorded_and_a_later_payment_is_credited(shop: Shop) -> None:
    order = await shop.order()
    declined = Declined(
        order_id=order.id, payment_id=f"pi_{order.id}", decline_code="expired_card", currency="usd", livemode=False
    )
    await shop.deliver(event("1", declined, "payment_intent.payment_failed"))
    payment = (await shop.orders.get(order.id)).payment
    assert (payment.decline_code, payment.status.is_pending, payment.outcome) == ("expired_card", True, None)
    await shop.deliver(event("2", page(order, is_complete=True, is_paid=True, tax_cents=0)))
    assert await shop.posted() == PACK.tokens
    assert (await shop.orders.get(order.id)).payment.tax_cents == 0


async def test_an_open_order_leaves_the_list_after_its_checkout_has_expired_even_without_an_event(shop: Shop) -> None:
    order = await shop.order()

    async def listed(at_us: int) -> int:
        return len(await shop.orders.list_for_account(order.account_id, before=None, rows_max=9, expired_at_us=at_us))

    later_us = NOW_US + CHECKOUT_LIFETIME_US
    assert (await listed(NOW_US), await listed(later_us)) == (1, 0)
    await shop.deliver(event("1", page(order, is_complete=True)))
    assert await listed(later_us) == 1, "the payment is pending"
    await shop.deliver(event("2", page(order, is_complete=True, outcome=UnpaidReason.FAILED)))
    assert await listed(later_us) == 1
