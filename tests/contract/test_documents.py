"""Documents are frozen, and their numbers have no gaps, on both engines."""

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened, outcome, schema
from support.query_plans import explained
from tok0n.adapters.sql.repositories.billing import SqlBilling
from tok0n.adapters.sql.repositories.documents import SqlDocuments
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.repositories.purchase_emails import SqlPurchaseEmails
from tok0n.domain.billing import NO_DETAILS, BillingDetails
from tok0n.domain.documents import Document, DocumentKind, Issuer, Seller
from tok0n.domain.errors import AccountingFailed, AlreadyExists
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.orders import Order, Payment
from tok0n.domain.packs import Pack

pytestmark = pytest.mark.anyio

PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)
INVOICES = Issuer(seller=Seller(name="Example Ltd", address="1 Street", tax_id="GB1"))
YEAR = datetime.fromtimestamp(NOW_US / 1e6, UTC).year


async def placed(db: Opened, number: int = 1, *, live: bool = False, billing: BillingDetails = NO_DETAILS) -> Order:
    """An order of an account of its own."""
    account = await db.accounts.create(email=f"{number}@x", tokens=0, now_us=NOW_US)
    orders = SqlOrders(db.store)
    opened = await orders.open(
        account_id=account.id, pack=PACK, currency="usd", now_us=NOW_US, quantity=2, billing=billing
    )
    assert opened.order is not None
    await orders.attach_checkout(opened.order.id, checkout_id=f"cs_{'live' if live else 'test'}_{number}")
    return await orders.get(opened.order.id)


async def record(
    db: Opened, order: Order, facts: Payment, *, issuer: Issuer = INVOICES, now_us: int = NOW_US
) -> list[Document]:
    orders = SqlOrders(db.store)
    await orders.record(order.id, facts, payment_id=f"pi_{order.id}", now_us=now_us, issuer=issuer)
    return await documents_of(db, order)


async def documents_of(db: Opened, order: Order) -> list[Document]:
    return await SqlDocuments(db.store).list_for_order(account_id=order.account_id, order_id=order.id)


async def test_a_paid_order_has_one_invoice_with_all_that_was_agreed(db: Opened) -> None:
    billing = BillingDetails(name="Ada", company="Engines", address="1 Row\nLondon", country="UK", tax_id="GB7")
    order = await placed(db, billing=billing)
    assert await record(db, order, Payment(is_complete=True)) == []
    paid = Payment(is_complete=True, paid_cents=1_200, tax_cents=200)
    (invoice,) = await record(db, order, paid)
    assert (invoice.number, invoice.kind) == (f"INV-{YEAR}-000001", DocumentKind.INVOICE)
    assert (invoice.buyer, invoice.seller, invoice.email) == (billing, INVOICES.seller, "1@x")
    (line,) = invoice.lines
    assert (line.name, line.quantity, line.tokens, line.unit_cents, line.cents) == ("Starter", 2, 2_000, 500, 1_000)
    assert [(amount.label, amount.cents) for amount in invoice.amounts] == [("Tax", 200)]
    assert (invoice.total_cents, invoice.is_live, invoice.payment_id) == (1_200, False, f"pi_{order.id}")
    assert await record(db, order, paid, now_us=NOW_US + 9, issuer=Issuer()) == [invoice], "once"


async def test_a_seller_without_tax_id_gives_receipts_with_numbers_of_their_own(db: Opened) -> None:
    (receipt,) = await record(db, await placed(db, 1), Payment(paid_cents=900), issuer=Issuer())
    (invoice,) = await record(db, await placed(db, 2), Payment(paid_cents=1_000))
    (live,) = await record(db, await placed(db, 3, live=True), Payment(paid_cents=1_000))
    assert [receipt.number, invoice.number, live.number] == [
        f"REC-{YEAR}-000001",
        f"INV-{YEAR}-000001",
        f"INV-{YEAR}-000001",
    ]
    assert (invoice.is_live, live.is_live) == (False, True)
    assert [(amount.label, amount.cents) for amount in receipt.amounts] == [("Taxes and discounts", -100)]


async def test_each_refund_has_a_credit_note_and_they_add_up(db: Opened) -> None:
    order = await placed(db)
    (invoice,) = await record(db, order, Payment(paid_cents=1_200, tax_cents=200))
    await record(db, order, Payment(refunded_cents=500), now_us=NOW_US + 1)
    await record(db, order, Payment(refunded_cents=500), now_us=NOW_US + 2)
    documents = await record(db, order, Payment(refunded_cents=1_200), now_us=NOW_US + 3)
    first, *notes = documents
    assert first == invoice
    assert [(note.number, note.total_cents) for note in notes] == [
        (f"CN-{YEAR}-000001", 500),
        (f"CN-{YEAR}-000002", 700),
    ]
    assert {note.corrects for note in notes} == {invoice.number}
    assert sum(amount.cents for note in notes for amount in note.amounts) == 200, "the tax is given back"


async def test_a_refund_that_is_known_before_the_payment_gets_its_note_after_the_invoice(db: Opened) -> None:
    order = await placed(db)
    assert await record(db, order, Payment(refunded_cents=100)) == []
    documents = await record(db, order, Payment(paid_cents=1_000))
    assert [document.kind for document in documents] == [DocumentKind.INVOICE, DocumentKind.CREDIT_NOTE]


async def test_numbers_start_again_with_each_utc_year(db: Opened) -> None:
    new_year_us = int(datetime(YEAR + 1, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    numbers = []
    for number, at_us in enumerate((new_year_us - 1, new_year_us, new_year_us + MICROSECONDS_PER_DAY)):
        (invoice,) = await record(db, await placed(db, number), Payment(paid_cents=1_000), now_us=at_us)
        numbers.append(invoice.number)
    assert numbers == [f"INV-{YEAR}-000001", f"INV-{YEAR + 1}-000001", f"INV-{YEAR + 1}-000002"]


async def test_sixty_racing_payments_get_consecutive_numbers_and_a_rollback_leaves_no_gap(db: Opened) -> None:
    orders = [await placed(db, number) for number in range(60)]
    taken = await placed(db, 999)
    await SqlOrders(db.store).record(taken.id, Payment(), payment_id="pi_taken", now_us=NOW_US)

    few = asyncio.Semaphore(30)  # the queues of both engines are bounded

    async def pay(order: Order, *, payment_id: str) -> object:
        paid = Payment(is_complete=True, paid_cents=1_000)
        orders = SqlOrders(db.store)
        async with few:
            return await outcome(orders.record(order.id, paid, payment_id=payment_id, now_us=NOW_US, issuer=INVOICES))

    def fail_after_issuing(tx: sa.Connection) -> None:
        tx.execute(sa.text("UPDATE document_series SET last = last + 1"))
        raise AlreadyExists("rolled back")

    async def fail() -> object:
        async with few:
            return await outcome(db.store.write(fail_after_issuing))

    races = [pay(order, payment_id=f"pi_{order.id}") for order in orders for _ in range(2)]
    races += [pay(order, payment_id="pi_taken") for order in orders[::10]]
    failing = [fail() for _ in range(20)]
    results = await asyncio.gather(*races[::2], *failing, *races[1::2])
    errors = [result for result in results if isinstance(result, Exception)]
    assert Counter(map(type, errors)) == {AlreadyExists: 26}
    numbers = sorted(row["number"] for row in await db.rows(schema.document))
    assert numbers == [f"INV-{YEAR}-{number:06}" for number in range(1, 61)]
    assert len(await db.rows(schema.purchase_email)) == 60


@pytest.mark.parametrize("statement", ["UPDATE document SET body = '{}'", "DELETE FROM document"])
async def test_no_statement_changes_a_document(db: Opened, statement: str) -> None:
    await record(db, await placed(db), Payment(paid_cents=1_000))
    with pytest.raises(AccountingFailed) as failed:
        await db.store.write(lambda tx: tx.execute(sa.text(statement)) and None)
    assert re.search("documents are never", str(failed.value.detail))


async def test_no_account_reads_documents_of_another(db: Opened) -> None:
    order, other = await placed(db, 1), await placed(db, 2)
    (invoice,) = await record(db, order, Payment(paid_cents=1_000))
    documents = SqlDocuments(db.store)
    assert await documents.list_for_order(account_id=other.account_id, order_id=order.id) == []
    assert await documents.sale_numbers(account_id=other.account_id, order_ids=[order.id]) == {}
    own = await documents.sale_numbers(account_id=order.account_id, order_ids=[order.id, other.id])
    assert own == {order.id: invoice.number}


async def test_each_paid_order_is_claimed_for_one_email(db: Opened) -> None:
    for number in range(10):
        order = await placed(db, number)
        if number % 2:
            await record(db, order, Payment(paid_cents=1_000))
    emails = SqlPurchaseEmails(db.store)
    with explained() as scans:
        claims = await asyncio.gather(*(emails.claim_due(now_us=NOW_US, rows_max=3) for _ in range(8)))
        claims.append(await emails.claim_due(now_us=NOW_US, rows_max=9))
    assert sorted(purchase.email for claim in claims for purchase in claim) == [f"{n}@x" for n in range(1, 10, 2)]
    assert {purchase.tokens for claim in claims for purchase in claim} == {2_000}
    assert scans == []


async def test_billing_details_are_kept_for_each_account(db: Opened) -> None:
    billing, details = SqlBilling(db.store), BillingDetails(name="Ada", address="a\nb")
    accounts = [await db.accounts.create(email=f"{number}@x", tokens=0, now_us=NOW_US) for number in range(2)]
    await billing.save(accounts[0].id, msgspec.structs.replace(details, name="Byron"))
    await billing.save(accounts[0].id, details)
    assert await billing.details(accounts[0].id) == details
    assert await billing.details(accounts[1].id) == NO_DETAILS
