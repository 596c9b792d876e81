"""Every table with rows of an account is in the export, or is left out for a reason."""

import functools
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from support.gateways import Running
from support.http import chat, chat_body
from support.mailbox import Mailbox
from support.pages import create_key
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import join
from support.visitor import Visitor
from tok0n.adapters.sql import schema
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain import table_text
from tok0n.domain.notices import BalanceAlert
from tok0n.domain.users import Hint

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
Shop = tuple[Running, StripeDouble]

EXPORTED: dict[str, tuple[str, set[str]]] = {
    "account": ("account.json", set()),
    "wallet": ("account.json", {"account_id", "entries"}),
    "users": (
        "account.json",
        {"account_id", "password_hash", "is_operator", "totp_secret", "totp_step", "closed_at_us"}
        | {"credential_changes"},
    ),
    "recovery_code": ("account.json", {"user_id", "digest"}),
    "passkey": ("account.json", {"credential_id", "user_id", "public_key"}),
    "session": ("account.json", {"digest", "user_id", "waits"}),
    "dismissed_hint": ("account.json", {"user_id"}),
    "known_device": ("account.json", {"user_id", "digest"}),
    "balance_alert": ("account.json", {"account_id", "notified"}),
    "notice_preference": ("account.json", {"account_id", "kind", "channel", "is_on"}),
    "debt": ("account.json", {"account_id"}),
    "billing_details": ("account.json", {"account_id", "details"}),
    "api_key": ("keys.json", {"version"}),
    "key_secret": ("keys.json", {"digest"}),
    "key_budget": ("keys.json", {"api_key_id", "created_at_us"}),
    "budget_period": ("budget-periods.csv", {"notified"}),
    "request": (
        "requests.csv",
        {"account_id", "budget_periods", "dispatched", "process_id", "expires_at_us", "details", "is_stream"}
        | {"client_left"},
    ),
    "rejected_request": ("rejected-requests.csv", {"account_id", "template", "arguments"}),
    "rejected_count": ("rejected-counts.csv", {"account_id", "quarter"}),
    "usage_quarter": ("usage-by-model.csv", {"account_id", "quarter", "api_key_id"}),
    "ledger_entry": ("statement.csv", {"id", "account_id", "order_id"}),
    "activity": ("activity.csv", {"account_id", "before", "after"}),
    "pack_order": (
        "orders.csv",
        {"billing", "is_complete"},
    ),
    "order_dispute": ("orders.csv", {"order_id"}),
    "document": ("documents.json", {"is_live", "account_id", "body"}),
}
"""Each exported table: its file, and the columns that are internal, secret, or written there in another form."""

LEFT_OUT = {
    "usage_span": "the sums of usage_quarter by hour, six hours and day, which the same files have",
    "request_outcome": "the latencies and failures of requests.csv, added up",
    "outcome_rollup": "how many requests these sums have, of all accounts",
    "usage_rollup": "how many days the sums of use have, of all accounts",
    "key_change": "numbers changes for the caches of processes; activity.csv has the changes",
    "redemption": "statement.csv has the entry of each redeemed code",
    "mail_link": "secrets that work once, for seven days at most",
    "alert_check": "a queue, which is empty after some seconds",
    "notice": "emails to send, which are deleted an hour after they were sent",
    "purchase_email": "whether the email about a purchase was sent",
    "form_submission": "recognizes double clicks, for some days",
}
"""Each table that is not exported, and why."""

OWNERS = {"account", "users", "api_key", "key_budget", "pack_order"}
"""The tables whose rows belong to an account. A table with a column for the id of one has rows of an account."""


def tables_of_accounts() -> set[str]:
    ids = {"account_id", "user_id", "api_key_id", "budget_id", "order_id"}
    return OWNERS | {table.name for table in schema.metadata.tables.values() if ids & set(table.columns.keys())}


def test_a_table_with_rows_of_accounts_is_exported_or_left_out_for_a_reason() -> None:
    assert EXPORTED.keys() & LEFT_OUT.keys() == set()
    assert EXPORTED.keys() | LEFT_OUT.keys() == tables_of_accounts()
    for name, (_, columns) in EXPORTED.items():
        assert columns <= set(schema.metadata.tables[name].columns.keys()), name


@pytest.fixture
async def opened(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Shop]:
    async with shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as opened:
        yield opened


@pytest.fixture
async def customer_of_shop(opened: Shop) -> AsyncIterator[Visitor]:
    async with Visitor(opened[0].url) as visitor:
        yield visitor


async def live(opened: Shop, visitor: Visitor, mailbox: Mailbox) -> None:
    """Do everything that leaves a row of each exported table."""
    site, double = opened
    await join(visitor, mailbox, ADA)
    fields = {"billing-name": "Ada Lovelace", "billing-company": "Engines Ltd", "billing-address": "1 Row"}
    fields |= {"billing-country": "UK", "billing-tax_id": "GB 7", "change": "billing"}
    await visitor.post("/dashboard/settings", fields)
    bought = await visitor.post("/dashboard/buy", {"pack": "starter"})
    page = bought.headers["location"].rpartition("/")[2]
    double.pay(page)
    await double.wait_until_delivered()
    assert site.sell_packs is not None
    await site.sell_packs.handle_all()
    account = await site.store.accounts.get(ADA)
    (order,) = await site.store.orders.list_for_account(account.id, before=None, rows_max=9)
    await site.sell_packs.refund(order.id, cents=125)
    assert order.payment_id is not None
    double.dispute(order.payment_id, status="needs_response", cents=100)
    await double.wait_until_delivered()
    await site.sell_packs.handle_all()
    secret = await create_key(visitor, budget_tokens="9000", budget_period="day")
    assert (await chat(site.base_url, secret, chat_body())).status == 200
    await site.store.balance_alerts.replace(account.id, [BalanceAlert(threshold_tokens=77)])
    await visitor.post("/dashboard/settings", {"change": "notices", "kind": "purchase"})
    user = await site.store.users.find(ADA)
    assert user is not None
    await site.store.users.dismiss_hint(Hint.TIME_ZONE, user_id=user.id)
    (key,) = await site.store.accounts.list_keys(account.id)
    of_account = {"account_id": account.id, "api_key_id": key.id}
    rejected = {"model": "demo", "code": "rate_limit_exceeded"}
    passkey = {"credential_id": b"c", "public_key": b"p", "sign_count": 4, "name": "my phone", "created_at_us": 5}
    inserts: list[tuple[str, dict[str, Any]]] = [
        ("recovery_code", {"user_id": user.id, "digest": b"d"}),
        ("passkey", passkey | {"user_id": user.id, "last_used_at_us": 6}),
        ("debt", {"account_id": account.id, "token_class": "standard", "tokens": 4321}),
        ("rejected_count", of_account | rejected | {"quarter": 3, "requests": 7_654, "stored": 5}),
        (
            "rejected_request",
            of_account
            | rejected
            | {"id": "req_0", "endpoint": "chat", "http_status": 429, "param": "p", "template": "Too many requests."}
            | {"arguments": "[]", "created_at_us": 9},
        ),
    ]

    def insert(tx: sa.Connection) -> None:
        for table, row in inserts:
            tx.execute(sa.insert(schema.metadata.tables[table]).values(row))

    await site.store.database.write(insert)


def files_of(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def rows_of(name: str, tx: sa.Connection) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in tx.execute(sa.select(schema.metadata.tables[name]))]


def is_in(text: str, column: str, value: object) -> bool:
    """Whether a file has a value as the export writes it."""
    if value is None or value == "":
        return True
    if column.endswith("_us") and isinstance(value, int):
        return table_text.utc_time(value) in text
    return str(value) in text


async def test_every_column_of_an_exported_table_is_in_its_file(
    opened: Shop, customer_of_shop: Visitor, mailbox: Mailbox
) -> None:
    site, _ = opened
    await live(opened, customer_of_shop, mailbox)
    files = files_of(await customer_of_shop.post_raw("/dashboard/settings/export", {}))
    account_id = (await site.store.accounts.get(ADA)).id
    missing = []
    for name, (file, left_out) in EXPORTED.items():
        rows = await site.store.database.read(functools.partial(rows_of, name))
        rows = [row for row in rows if row.get("account_id", account_id) == account_id]
        if name in {"account", "users"}:
            rows = [row for row in rows if row["email"] == ADA]
        if name == "key_secret":
            key_ids = {key.id for key in await site.store.accounts.list_keys(account_id)}
            rows = [row for row in rows if row["api_key_id"] in key_ids]
        assert rows, f"no row of {name}: `live` must create one"
        missing += [
            (name, column, value)
            for row in rows
            for column, value in row.items()
            if column not in left_out and not is_in(files[file], column, value)
        ]
    assert missing == []
    account = json.loads(files["account.json"])
    assert account["billing_details"]["tax_id"] == "GB 7"
    assert account["notices"] == ["purchase"]
    assert account["user"]["recovery_codes_left"] == 1
    documents = json.loads(files["documents.json"])
    assert {document["kind"] for document in documents} == {"invoice", "credit_note"}
    assert documents[0]["buyer"]["name"] == "Ada Lovelace"
    assert "The request was rejected. You were not charged." in files["rejected-requests.csv"]
