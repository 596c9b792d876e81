"""An account whose data is as long, large and varied as data can be, to look at the pages with.

The rows are written straight into SQLite. The pages only read them, so the balances don't add up.
"""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tok0n.domain import ids
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR

LARGEST = 999_999_999_999_999
"""A balance and a charge of 15 digits."""

LONG_NAME = "Production key of the Rindfleischetikettierungsüberwachungsaufgabenübertragungs-Team, London office."
LONG_MODEL = "organization/llama-4-maverick-17b-128e-instruct-fp8-20261129"
LONG_TITLE = "Premium tokens for the largest models and long contexts only"
NOTE = "Rotate before the audit. " * 20
CLASSES = ("standard", "premium", "embedding", "retired_and_long_class_name")
SETTINGS = f"""
[token_classes.premium]
title = "{LONG_TITLE}"
[token_classes.embedding]
title = "Embedding tokens"
[models."{LONG_MODEL}"]
upstream = "fake"
upstream_model = "upstream-demo"
max_output_tokens = 1000
token_class = "premium"
[packs.enormous]
name = "The largest pack, for a company of many thousand people"
tokens = 999999999999
price_usd = "99999.00"
token_class = "premium"
"""
_ORDERS: list[dict[str, object]] = [
    {},
    {"is_complete": 1},
    {"outcome": "expired"},
    {"outcome": "failed"},
    {"is_complete": 1, "paid_cents": 9_999_900, "paid_at_us": 1_790_000_000_000_000, "payment_id": "pi_"},
]
_REQUESTS = ["SETTLED", "SETTLED", "RELEASED", "SETTLED", "EXPIRED", "PENDING"]


class ExtremeAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What the paths of the account's pages are made of.

    `others` are requests that failed, streamed, expired, are in progress, were given back, and were rejected.
    """

    key: str
    request: str
    others: list[str]
    order: str


class _Writer:
    """Writes the rows of one account. Bytes that must be unique are a running number."""

    def __init__(self, database: sqlite3.Connection, *, account_id: str, user_id: str, now_us: int) -> None:
        self._database = database
        self._account_id = account_id
        self._user_id = user_id
        self._now_us = now_us
        self._numbers: Iterator[int] = itertools.count(1)

    def write(self) -> ExtremeAccount:
        """Write everything, and return the ids of a key, a request and an order with much to show."""
        keys = self._keys()
        requests = self._requests(keys)
        order = self._orders()
        self._entries(requests)
        self._sessions()
        self._activity(keys)
        for table in ("usage_span", "usage_rollup", "request_outcome", "outcome_rollup"):
            # Roll-ups may have counted the days before their requests existed. Without them, pages read the requests.
            self._database.execute(f"DELETE FROM {table}")
        others = [*requests[2:6], requests[9], self._rejected(keys[0])]
        return ExtremeAccount(key=keys[0], request=requests[0], others=others, order=order)

    def _random(self) -> bytes:
        return next(self._numbers).to_bytes(ids.RANDOM_BYTES)

    def _insert(self, table: str, **values: object) -> None:
        marks = ", ".join("?" * len(values))
        self._database.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))

    def _keys(self) -> list[str]:
        keys = [ids.api_key_id(b"key" + self._random()[3:]) for _ in range(8)]
        for number, key in enumerate(keys):
            self._insert(
                "api_key",
                id=key,
                account_id=self._account_id,
                name=LONG_NAME if number % 2 == 0 else f"short {number}",
                created_at_us=self._now_us - number * MICROSECONDS_PER_DAY,
                revoked_at_us=self._now_us if number == 5 else None,
                disabled_at_us=self._now_us if number == 3 else None,
                expires_at_us=self._now_us - 1 if number == 4 else None,
                models=msgspec.json.encode(["demo", LONG_MODEL]).decode() if number == 0 else None,
                networks=msgspec.json.encode(["10.0.0.0/8", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:0/112"]).decode()
                if number == 0
                else None,
                requests_per_minute=1_000_000 if number == 0 else None,
                note=NOTE if number == 0 else "",
                last_used_at_us=self._now_us - 1_000_000,
            )
            self._insert(
                "key_secret",
                digest=self._random(),
                api_key_id=key,
                prefix="tk0n_",
                last_four="aZ9x",
                created_at_us=self._now_us,
            )
        for number in range(8):
            budget = ids.budget_id(self._random())
            self._insert(
                "key_budget",
                id=budget,
                api_key_id=keys[0],
                tokens=LARGEST,
                period=("total", "day", "week", "month")[number % 4],
                token_class=None if number < 4 else CLASSES[number % 3],
                time_zone="America/Argentina/ComodRivadavia",
                created_at_us=self._now_us,
            )
        return keys

    def _requests(self, keys: list[str]) -> list[str]:
        made = []
        for number in range(120):
            at_us = self._now_us - number * 7 * MICROSECONDS_PER_QUARTER_HOUR - 60_000_000
            status = _REQUESTS[number % len(_REQUESTS)]
            is_settled, is_pending = status == "SETTLED", status == "PENDING"
            charged = (LARGEST if number % 12 == 0 else 1_234 + number) if is_settled else 0
            made.append(ids.request_id(at_us, self._random()))
            model = LONG_MODEL if number % 2 == 0 else "demo"
            self._insert(
                "request",
                id=made[-1],
                account_id=self._account_id,
                api_key_id=keys[number % len(keys)],
                model=model,
                token_class="premium" if number % 2 == 0 else "standard",
                status=status,
                reserved=LARGEST if number % 12 == 0 else 3_000,
                charged=charged,
                shortfall=0,
                prompt_tokens=charged - 234 if is_settled else None,
                completion_tokens=234 if is_settled else None,
                total_tokens=charged if is_settled else None,
                code=None if is_settled or is_pending else "upstream_timeout",
                dispatched=1,
                upstream_ms=123_456,
                created_at_us=at_us,
                expires_at_us=self._now_us + 10**9,
                resolved_at_us=None if is_pending else at_us + 800_000,
                is_stream=number % 3 == 0,
                first_event_ms=12_345 if number % 3 == 0 else None,
            )
        self._database.execute(
            "INSERT INTO usage_quarter (account_id, quarter, api_key_id, model, requests, prompt_tokens,"
            " completion_tokens, charged)"
            f" SELECT account_id, resolved_at_us / {MICROSECONDS_PER_QUARTER_HOUR}, api_key_id, model,"
            " count(*), sum(prompt_tokens), sum(completion_tokens), sum(charged) FROM request"
            " WHERE status = 'SETTLED' AND account_id = ? GROUP BY 1, 2, 3, 4",
            [self._account_id],
        )
        return made

    def _rejected(self, key: str) -> str:
        request = ids.request_id(self._now_us, self._random())
        self._insert(
            "rejected_request",
            id=request,
            account_id=self._account_id,
            api_key_id=key,
            endpoint="count_tokens",
            model=LONG_MODEL,
            http_status=402,
            code="insufficient_tokens",
            param="messages.content.cache_control.a_very_long_parameter_name",
            template="insufficient_tokens",
            arguments="[]",
            created_at_us=self._now_us,
        )
        return request

    def _orders(self) -> str:
        for number in range(60):
            at_us = self._now_us - (60 - number) * MICROSECONDS_PER_QUARTER_HOUR
            order = ids.order_id(at_us, self._random())
            facts = dict(_ORDERS[number % len(_ORDERS)])
            if "payment_id" in facts:
                facts |= {"payment_id": f"pi_{number}", "purchase_applied": LARGEST}
            self._insert(
                "pack_order",
                **{
                    "id": order,
                    "account_id": self._account_id,
                    "pack_id": "enormous",
                    "pack_name": "The largest pack, for a company of many thousand people",
                    "token_class": CLASSES[number % 4],
                    "tokens": LARGEST,
                    "price_cents": 9_999_900,
                    "currency": "usd",
                    "created_at_us": at_us,
                    "checkout_id": f"cs_{number}",
                    **facts,
                },
            )
        return order

    def _entries(self, requests: list[str]) -> None:
        for token_class in CLASSES:
            self._database.execute(
                "INSERT INTO wallet (account_id, token_class, posted, pending, entries) VALUES (?, ?, ?, ?, 60)"
                " ON CONFLICT DO UPDATE SET posted = excluded.posted, pending = excluded.pending, entries = 60",
                [self._account_id, token_class, LARGEST, LARGEST // 2],
            )
        settled = iter(requests[::6])
        for number in range(1, 61):
            usage = number % 4 == 0
            self._insert(
                "ledger_entry",
                account_id=self._account_id,
                token_class=CLASSES[number % 2],
                number=number,
                kind="usage" if usage else ("purchase", "grant", "adjustment")[number % 3],
                amount=-LARGEST if usage else LARGEST,
                posted_after=LARGEST,
                request_id=next(settled) if usage else None,
                reason=None if usage else NOTE[:200],
                author=None if usage else "operator",
                created_at_us=self._now_us - (61 - number) * MICROSECONDS_PER_QUARTER_HOUR,
            )
        self._insert(
            "ledger_entry",
            account_id=self._account_id,
            token_class="standard",
            number=61,
            kind="adjustment",
            amount=1_243,
            posted_after=LARGEST,
            reverses_request_id=requests[9],
            created_at_us=self._now_us,
        )

    def _sessions(self) -> None:
        agents = ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML) Chrome/141.0 Safari/537.36", "x" * 200]
        for number in range(1, 31):
            self._insert(
                "session",
                digest=self._random(),
                user_id=self._user_id,
                created_at_us=self._now_us - number * MICROSECONDS_PER_QUARTER_HOUR,
                seen_at_us=self._now_us - number * MICROSECONDS_PER_QUARTER_HOUR,
                agent=agents[number % 2],
                waits=0,
                network="2001:db8:aaaa:bbbb::/64",
            )

    def _activity(self, keys: list[str]) -> None:
        for number in range(60):
            self._insert(
                "activity",
                account_id=self._account_id,
                api_key_id=keys[number % len(keys)],
                action="key_edited",
                actor="a.person.with.a.very.long.email.address@subdomain.of.example.com",
                before=msgspec.json.encode({"name": LONG_NAME, "note": NOTE, "models": [LONG_MODEL]}).decode(),
                after=msgspec.json.encode({"name": "short", "note": "", "models": None}).decode(),
                created_at_us=self._now_us - number,
            )


def fill(path: Path, *, email: str, now_us: int) -> ExtremeAccount:
    """Fill the account of a user in the SQLite database at `path`."""
    database = sqlite3.connect(path, timeout=20)
    try:
        with database:
            user = database.execute("SELECT account_id, id FROM users WHERE email = ?", [email]).fetchone()
            return _Writer(database, account_id=user[0], user_id=user[1], now_us=now_us).write()
    finally:
        database.close()
