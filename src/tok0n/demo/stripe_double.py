"""A Stripe double for the demo and the tests: the part of Stripe's API that Tok0n uses, a payment page, and webhooks.

It moves no money, and its page says so. It uses HTTP and signs its webhooks as Stripe does, so the demo runs the real
SDK and webhook route.
"""

import asyncio
import hashlib
import hmac
import html
import json
import secrets
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

WEBHOOK_SECONDS_MAX = 10
WEBHOOK_ATTEMPTS = 5
WEBHOOK_PAUSE_SECONDS = 0.5
DELAY_SECONDS = 5.0
"""The time until a delayed payment succeeds or fails."""

DECLINES = {"decline": "generic_decline", "no_funds": "insufficient_funds"}
"""The decline codes of the payment page's buttons (Stripe API reference, decline codes)."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Simulated payment</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 30rem; margin: 4rem auto; padding: 0 1.25rem }}
.simulated {{ border: 2px dashed; border-radius: 8px; padding: 0.75rem 1rem }}
button {{ font: inherit; padding: 0.5rem 1rem; margin: 0 0.4rem 0.4rem 0; border-radius: 6px; border: 1px solid }}
</style>
</head>
<body>
<main>
<h1>Simulated payment</h1>
<p class="simulated"><strong>No money moves.</strong> This page simulates Stripe's payment page in Tok0n's demo.</p>
<p>{quantity} x {name}: ${dollars}</p>
<form method="post">
<button name="do" value="approve">Approve</button>
<button name="do" value="delay">Approve, but later</button>
<button name="do" value="fail">Approve, but fail later</button>
<button name="do" value="decline">Decline</button>
<button name="do" value="no_funds">Decline: no funds</button>
<button name="do" value="expire">Expire</button>
</form>
<p><a href="{cancel}">Back to the shop</a></p>
</main>
</body>
</html>
"""

Handler = Callable[[Request], Awaitable[Response]]


class NotPossible(Exception):
    """Stripe rejects the call with an `invalid_request_error`."""


class StripeDouble:
    """A simulated Stripe with its state in memory. It serves `url` and sends webhooks to `webhook_url`."""

    def __init__(self, *, secret_key: str, webhook_secret: str) -> None:
        self.url = ""
        self.webhook_url: str | None = None
        self.sessions: dict[str, dict[str, Any]] = {}
        self.intents: dict[str, dict[str, Any]] = {}
        self.charges: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.tax_percent = 0
        self._secret_key = secret_key
        self._webhook_secret = webhook_secret
        self._answers: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/checkout/sessions", self._api(self._create_session), methods=["POST"]),
                Route("/v1/checkout/sessions/{id}", self._api(self._get_session)),
                Route("/v1/checkout/sessions/{id}/expire", self._api(self._expire_session), methods=["POST"]),
                Route("/v1/refunds", self._api(self._refund), methods=["POST"]),
                Route("/v1/events", self._api(self._list_events)),
                Route("/pay/{id}", self._pay, methods=["GET", "POST"]),
            ]
        )

    async def aclose(self) -> None:
        """Cancel the delivery of webhooks."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)

    async def wait_until_delivered(self) -> None:
        """Wait until every webhook is delivered or has failed for good."""
        while self._deliveries:
            await asyncio.gather(*self._deliveries, return_exceptions=True)

    def pay(self, session_id: str, *, later: bool = False) -> None:
        """Complete the payment of a session. With `later`, the money arrives with `succeed_later`."""
        session = self.sessions[session_id]
        if session["status"] != "open":
            return
        self._intent(session)["last_payment_error"] = None
        session |= {
            "status": "complete",
            "url": None,
            "payment_status": "unpaid" if later else "paid",
        }
        if not later:
            self._charge(session)
        self.send_event("checkout.session.completed", session)

    def succeed_later(self, session_id: str) -> None:
        """Let a delayed payment succeed."""
        session = self.sessions[session_id]
        session["payment_status"] = "paid"
        self._charge(session)
        self.send_event("checkout.session.async_payment_succeeded", session)

    def fail_later(self, session_id: str) -> None:
        """Let a delayed payment fail."""
        session = self.sessions[session_id]
        self._intent(session)["last_payment_error"] = {"code": "payment_intent_payment_attempt_failed"}
        self.send_event("checkout.session.async_payment_failed", session)

    def decline(self, session_id: str, *, decline_code: str = "generic_decline") -> None:
        """Decline an attempt to pay. The session stays open, so the buyer can try another card."""
        session = self.sessions[session_id]
        intent = self._intent(session)
        intent["last_payment_error"] = {
            "code": "card_declined",
            "decline_code": decline_code,
            "message": "Your card was declined.",
            "type": "card_error",
        }
        self.send_event("payment_intent.payment_failed", intent)

    def expire(self, session_id: str) -> None:
        """Expire an open session, as Stripe does after 24 hours."""
        session = self.sessions[session_id]
        session |= {"status": "expired", "url": None}
        self.send_event("checkout.session.expired", session)

    def dispute(self, payment_id: str, *, status: str, cents: int) -> None:
        """Open a dispute, or decide it."""
        kind = "created" if status == "needs_response" else "closed"
        dispute = {
            "id": f"dp_{payment_id}",
            "object": "dispute",
            "payment_intent": payment_id,
            "amount": cents,
            "currency": "usd",
            "livemode": False,
            "status": status,
        }
        self.send_event(f"charge.dispute.{kind}", dispute)

    def send_event(self, kind: str, item: dict[str, Any]) -> dict[str, Any]:
        """Create an event, and send its webhook until the receiver accepts it."""
        event = {
            "id": _id("evt"),
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": json.loads(json.dumps(item))},
        }
        self.events.append(event)
        if self.webhook_url is not None:
            task = asyncio.create_task(self._deliver(json.dumps(event).encode()))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)
        return event

    def sign(self, payload: bytes, *, at: int | None = None, secret: str | None = None) -> str:
        """Return the Stripe-Signature header of a payload."""
        timestamp = int(time.time()) if at is None else at
        key = (self._webhook_secret if secret is None else secret).encode()
        signature = hmac.new(key, f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
        return f"t={timestamp},v1={signature}"

    async def _deliver(self, payload: bytes) -> None:
        for attempt in range(WEBHOOK_ATTEMPTS):
            if await asyncio.to_thread(self._post, payload):
                return
            await asyncio.sleep(WEBHOOK_PAUSE_SECONDS * 2**attempt)

    def _post(self, payload: bytes) -> bool:
        assert self.webhook_url is not None
        headers = {"content-type": "application/json", "stripe-signature": self.sign(payload)}
        request = urllib.request.Request(self.webhook_url, payload, headers)  # noqa: S310  our own server
        try:
            with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS_MAX) as answer:  # noqa: S310
                return bool(answer.status < 300)
        except OSError:
            return False

    def _api(self, handler: Callable[[Request, dict[str, Any]], dict[str, Any] | None]) -> Handler:
        async def endpoint(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._secret_key}":
                return _error(401, "Invalid API Key provided")
            fields = _nested(parse_qsl((await request.body()).decode(), keep_blank_values=True))
            key = request.headers.get("idempotency-key")
            if key is not None and key in self._answers:
                first_fields, first_answer = self._answers[key]
                if fields != first_fields:
                    return _error(400, "Keys for idempotent requests can only be used with the same parameters")
                return JSONResponse(first_answer)
            try:
                answer = handler(request, fields)
            except NotPossible as error:
                return _error(400, str(error))
            if answer is None:
                return _error(404, "No such object", code="resource_missing")
            if key is not None:
                self._answers[key] = (fields, json.loads(json.dumps(answer)))
            return JSONResponse(answer)

        return endpoint

    def _create_session(self, _: Request, fields: dict[str, Any]) -> dict[str, Any]:
        item = fields["line_items"]["0"]
        cents = int(item["price_data"]["unit_amount"]) * int(item["quantity"])
        is_taxed = fields.get("automatic_tax", {}).get("enabled") == "true"
        tax_cents = cents * self.tax_percent // 100 if is_taxed else 0
        session_id = _id("cs_test")
        self.sessions[session_id] = {
            "id": session_id,
            "object": "checkout.session",
            "mode": fields["mode"],
            "url": f"{self.url}/pay/{session_id}",
            "client_reference_id": fields["client_reference_id"],
            "metadata": fields["metadata"],
            "payment_intent": None,
            "payment_status": "unpaid",
            "status": "open",
            "amount_subtotal": cents,
            "amount_total": cents + tax_cents,
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": tax_cents},
            "currency": item["price_data"]["currency"],
            "livemode": False,
            "success_url": fields["success_url"],
            "cancel_url": fields["cancel_url"],
            "name": item["price_data"]["product_data"]["name"],
            "quantity": int(item["quantity"]),
        }
        return self.sessions[session_id]

    def _get_session(self, request: Request, _: dict[str, Any]) -> dict[str, Any] | None:
        session = self.sessions.get(request.path_params["id"])
        expanded = _nested(list(request.query_params.multi_items())).get("expand", {}).values()
        if session is not None and session["payment_intent"] and "payment_intent" in expanded:
            return session | {"payment_intent": self.intents[session["payment_intent"]]}
        return session

    def _expire_session(self, request: Request, _: dict[str, Any]) -> dict[str, Any] | None:
        session = self.sessions.get(request.path_params["id"])
        if session is None:
            return None
        if session["status"] != "open":
            raise NotPossible(f"Only open Checkout Sessions can be expired. This one is {session['status']}.")
        self.expire(session["id"])
        return session

    def _refund(self, _: Request, fields: dict[str, Any]) -> dict[str, Any] | None:
        charge = self.charges.get(fields["payment_intent"])
        if charge is None:
            return None
        if charge["amount_refunded"] + int(fields["amount"]) > charge["amount"]:
            raise NotPossible("Refund amount is greater than unrefunded amount on charge")
        charge["amount_refunded"] += int(fields["amount"])
        self.send_event("charge.refunded", charge)
        return {"id": _id("re"), "object": "refund", "amount": int(fields["amount"]), "status": "succeeded"}

    def _list_events(self, request: Request, _: dict[str, Any]) -> dict[str, Any]:
        query = _nested(list(request.query_params.multi_items()))
        since = int(query.get("created", {}).get("gte", 0))
        types = set(query.get("types", {}).values())
        events = [event for event in reversed(self.events) if event["created"] >= since and event["type"] in types]
        after = query.get("starting_after")
        if after is not None:
            events = events[[event["id"] for event in events].index(after) + 1 :]
        limit = int(query.get("limit", 10))
        return {"object": "list", "url": "/v1/events", "data": events[:limit], "has_more": len(events) > limit}

    async def _pay(self, request: Request) -> Response:
        session = self.sessions.get(request.path_params["id"])
        if session is None:
            return HTMLResponse("There is no such payment.", 404)
        if session["status"] == "expired":
            return HTMLResponse("This simulated checkout has expired. Go back to the shop and buy the pack again.", 410)
        if request.method == "GET":
            values = {"name": session["name"], "cancel": session["cancel_url"], "quantity": str(session["quantity"])}
            dollars = f"{session['amount_total'] / 100:.2f}"
            escaped = {key: html.escape(value) for key, value in values.items()}
            return HTMLResponse(_PAGE.format(dollars=dollars, **escaped))
        action = dict(parse_qsl((await request.body()).decode())).get("do")
        if action in DECLINES:
            self.decline(session["id"], decline_code=DECLINES[action])
            return RedirectResponse(session["cancel_url"], 303)
        if action == "expire":
            self.expire(session["id"])
            return RedirectResponse(session["cancel_url"], 303)
        later = {"delay": self.succeed_later, "fail": self.fail_later}.get(action or "")
        self.pay(session["id"], later=later is not None)
        if later is not None:
            asyncio.get_running_loop().call_later(DELAY_SECONDS, later, session["id"])
        return RedirectResponse(session["success_url"], 303)

    def _intent(self, session: dict[str, Any]) -> dict[str, Any]:
        """Return the payment intent of a session. The first attempt to pay creates it."""
        intent_id: str | None = session["payment_intent"]
        if intent_id is None:
            intent_id = session["payment_intent"] = _id("pi")
            self.intents[intent_id] = {
                "id": intent_id,
                "object": "payment_intent",
                "metadata": session["metadata"],
                "currency": session["currency"],
                "livemode": False,
                "last_payment_error": None,
            }
        return self.intents[intent_id]

    def _charge(self, session: dict[str, Any]) -> None:
        self.charges[session["payment_intent"]] = {
            "id": _id("ch"),
            "object": "charge",
            "payment_intent": session["payment_intent"],
            "amount": session["amount_total"],
            "amount_refunded": 0,
            "currency": session["currency"],
            "livemode": False,
            "metadata": session["metadata"],
        }


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def _error(status: int, message: str, *, code: str | None = None) -> Response:
    error = {"message": message, "type": "invalid_request_error"}
    return JSONResponse({"error": error if code is None else error | {"code": code}}, status)


def _nested(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Convert the form fields of Stripe's SDK, such as a[b][0]=c, to nested dicts."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        path = name.replace("]", "").split("[")
        table = result
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
    return result
