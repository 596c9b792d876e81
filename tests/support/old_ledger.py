"""The rows of a ledger of schema 0102, as its code wrote them. The same seed gives the same rows."""

import random
from collections import Counter, defaultdict
from typing import Any

from tok0n.domain.ledger import MICROSECONDS_PER_HOUR

START_US = 1_800_000_000_000_000
PROCESS_ID = "proc_old"
BUDGET = 10**6

Row = dict[str, Any]


class OldLedger:
    """Accounts with three keys each, and `requests` that they made: `rows` has the rows of each table.

    The first key of an account has no budget, the second has one, and the third is revoked and has a budget. The last
    tenth of the requests is PENDING.
    """

    def __init__(self, *, accounts: int, requests: int, seed: int = 1) -> None:
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self._dice = random.Random(seed)
        self._now_us = START_US
        self._hours: dict[tuple[str, int, str, str], Counter[str]] = defaultdict(Counter)
        self._accounts = [self._add_account(number) for number in range(accounts)]
        for number in range(requests):
            self._now_us += self._dice.randrange(60_000_000)
            account = self._dice.choice(self._accounts)
            if number >= requests - requests // 10:
                self._reserve(number, account, "PENDING")
            else:
                self._complete(number, account)
        self._add_codes()
        self.rows["process"].append({"id": PROCESS_ID, "lease_ends_at_us": 1, "renewed_since_us": 0})
        for (account_id, hour, key_id, model), sums in self._hours.items():
            names = {"account_id": account_id, "hour": hour, "api_key_id": key_id, "model": model}
            self.rows["usage_hour"].append(names | dict(sums))

    def _add_account(self, number: int) -> Row:
        account: Row = {"id": f"acct_{number:020x}", "email": f"{number}@example.com", "status": "open"}
        account |= {"posted": 0, "pending": 0, "created_at_us": START_US}
        self.rows["account"].append(account)
        user = {"id": f"user_{number:020x}", "account_id": account["id"], "email": account["email"]}
        user |= {"password_hash": "x", "verified_at_us": START_US, "created_at_us": START_US}
        self.rows["users"].append(user)
        notice = {"account_id": account["id"], "threshold_tokens": 1_000, "notified": number % 2}
        self.rows["low_balance_notice"].append(notice)
        for index, (budget, revoked_at_us) in enumerate(((None, None), (BUDGET, None), (BUDGET, START_US + 10**13))):
            key_number = 3 * number + index
            key: Row = {"id": f"key_{key_number:020x}", "account_id": account["id"], "name": f"key {index}"}
            key |= {"digest": key_number.to_bytes(32, "big"), "prefix": "tk0n_abcd", "last_four": f"{key_number:04}"}
            key |= {"created_at_us": START_US + index, "revoked_at_us": revoked_at_us, "budget": budget, "spent": 0}
            key |= {"pending": 0, "models": '["demo"]' if index else None, "expires_at_us": None}
            self.rows["api_key"].append(key)
        self._append(account, "grant", 5_000, reason="opening grant")
        return account

    def _append(self, account: Row, kind: str, amount: int, **columns: Any) -> None:
        account["posted"] += amount
        entry: Row = {"id": 10 + 3 * len(self.rows["ledger_entry"]), "account_id": account["id"], "kind": kind}
        entry |= {"amount": amount, "posted_after": account["posted"], "created_at_us": self._now_us}
        empty = dict.fromkeys(("request_id", "reason", "order_id", "reverses_request_id"))
        self.rows["ledger_entry"].append(entry | empty | columns)

    def _reserve(self, number: int, account: Row, status: str) -> Row:
        tokens = self._dice.randint(1, 400)
        while account["posted"] - account["pending"] < tokens:
            self._buy(account)
        first = 3 * self._accounts.index(account)
        key = self.rows["api_key"][first + self._dice.randrange(3)]
        request: Row = {"id": f"req_{self._now_us // 1000:012x}{number:020x}", "account_id": account["id"]}
        request |= {"api_key_id": key["id"], "model": self._dice.choice(("demo", "other")), "status": status}
        request |= {"reserved": tokens, "charged": 0, "shortfall": 0, "dispatched": 1, "process_id": PROCESS_ID}
        request |= {"created_at_us": self._now_us, "expires_at_us": self._now_us + 10**8, "resolved_at_us": None}
        request |= dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "details", "code"))
        request["endpoint"] = self._dice.choice(("chat", "embeddings"))
        self.rows["request"].append(request)
        if status == "PENDING":
            account["pending"] += tokens
            if key["budget"] is not None:
                key["pending"] += tokens
        return request

    def _complete(self, number: int, account: Row) -> None:
        status = self._dice.choices(("SETTLED", "RELEASED", "EXPIRED"), (8, 1, 1))[0]
        request = self._reserve(number, account, status)
        request["resolved_at_us"] = self._now_us + 10**6
        if status == "SETTLED":
            self._settle(account, request)
        else:
            request["code"] = "expired" if status == "EXPIRED" else "upstream_error"

    def _settle(self, account: Row, request: Row) -> None:
        """Charge a use that may exceed the reservation, and even the balance."""
        total = self._dice.randint(1, 2 * request["reserved"])
        charged = min(total, account["posted"] - account["pending"])
        request |= {"prompt_tokens": total, "completion_tokens": 0, "total_tokens": total, "details": '{"a":1}'}
        request |= {"charged": charged, "shortfall": total - charged}
        self._append(account, "usage", -charged, request_id=request["id"])
        key = next(key for key in self.rows["api_key"] if key["id"] == request["api_key_id"])
        if key["budget"] is not None:
            key["spent"] += charged
        hour = self._hours[
            account["id"], request["resolved_at_us"] // MICROSECONDS_PER_HOUR, key["id"], request["model"]
        ]
        hour.update(requests=1, prompt_tokens=total, completion_tokens=0, charged=charged)
        if self._dice.random() < 0.02:
            reason = f"reversal of {request['id']}: its answer was not given"
            self._append(account, "adjustment", charged, reason=reason, reverses_request_id=request["id"])

    def _buy(self, account: Row) -> None:
        """Buy tokens. Every third order is refunded, which leaves a debt for those that were spent."""
        tokens, number = 20_000, len(self.rows["pack_order"])
        order: Row = {"id": f"ord_{self._now_us // 1000:012x}{number:020x}", "account_id": account["id"]}
        order |= {"pack_id": "small", "pack_name": "Small", "tokens": tokens, "price_cents": 500, "currency": "eur"}
        order |= {"created_at_us": self._now_us, "checkout_id": f"cs_{number}", "payment_id": f"pi_{number}"}
        order |= {"is_complete": 1, "paid_cents": 500, "paid_at_us": self._now_us, "purchase_applied": tokens}
        order |= {"refund_applied": 0, "refunded_cents": 0}
        self.rows["pack_order"].append(order)
        debts = self.rows["debt"]
        debt = next((row for row in debts if row["account_id"] == account["id"]), None)
        self._append(account, "purchase", tokens, order_id=order["id"])
        if debt is not None and debt["tokens"]:
            self._append(account, "adjustment", -debt["tokens"], reason="debt", order_id=order["id"])
            debt["tokens"] = 0
        if number % 3 == 2:
            taken = min(tokens, account["posted"] - account["pending"]) - self._dice.randint(1, 5_000)
            spent = tokens - taken
            self._append(account, "refund", -taken, order_id=order["id"])
            order |= {"refund_applied": tokens, "refunded_cents": 500}
            self.rows["order_dispute"].append(
                {"id": f"dp_{number}", "order_id": order["id"], "cents": 500, "status": "won"}
            )
            if debt is None:
                debts.append({"account_id": account["id"], "tokens": spent})
            else:
                debt["tokens"] = spent

    def _add_codes(self) -> None:
        for number in range(3):
            digest = bytes([number]) * 32
            code: Row = {"digest": digest, "shown": f"CODE{number}", "tokens": 77, "uses_max": 5, "uses": number}
            code |= {"expires_at_us": None, "reason": "fair", "created_at_us": START_US}
            self.rows["redeem_code"].append(code)
            for account in self._accounts[:number]:
                self._append(account, "grant", 77, reason="code CODE")
                redemption = {"digest": digest, "account_id": account["id"], "redeemed_at_us": self._now_us}
                self.rows["redemption"].append(redemption)
