"""Stripe Checkout through the official SDK, which is synchronous and runs in threads. Tok0n never sees card data.

Source: Stripe API reference, version 2026-10-28: Checkout Sessions, Refunds, Events, Webhook signatures.
"""

import asyncio
import functools
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tok0n.domain.errors import CheckoutGone, PaymentFailed, SignatureInvalid
from tok0n.domain.orders import Dispute, DisputeStatus, Order, UnpaidReason
from tok0n.domain.payments import (
    EVENT_TIME_SECONDS_MAX,
    Checkout,
    Declined,
    Disputed,
    NotApplicable,
    PaymentEvent,
    ProviderFact,
    Refunded,
    RefundFailed,
)

if TYPE_CHECKING:
    import stripe

TOLERANCE_SECONDS = 300
"""The largest difference, in either direction, between now and the time of a webhook's signature."""

SIGNATURE_CHARACTERS_MAX = 1_000
"""Stripe's signature header has about 150 characters, or 300 while the operator rotates the secret."""

EVENT_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
EVENT_TYPE = re.compile(r"[a-z0-9_.]{1,100}")
UNREADABLE_TYPE = "unreadable"
WHY_CHARACTERS_MAX = 300

PAGE_ORIGIN = "https://checkout.stripe.com"
RETRIES = 2
EVENTS_AT_ONCE = 100
ORDER_KEY = "tok0n_order"

FAILED_TYPE = "checkout.session.async_payment_failed"
"""The only event whose type matters, because the status of its session stays "complete"."""

_CHECKOUTS = ("completed", "async_payment_succeeded", "async_payment_failed", "expired")
EVENT_TYPES = (
    *(f"checkout.session.{suffix}" for suffix in _CHECKOUTS),
    "payment_intent.payment_failed",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "refund.failed",
)
"""The events that the operator subscribes the webhook to. docs/payments.md lists them."""

_DECIDED = {"won": DisputeStatus.WON, "warning_closed": DisputeStatus.WON, "prevented": DisputeStatus.WON}
_DECIDED |= {"lost": DisputeStatus.LOST}


class StripePayments:
    """The `Payments` port. `api_base` replaces the URL of Stripe's API, for the demo's double."""

    def __init__(
        self,
        *,
        secret_key: str,
        webhook_secret: str,
        automatic_tax: bool,
        promotion_codes: bool,
        api_base: str | None = None,
        events_at_once: int = EVENTS_AT_ONCE,
    ) -> None:
        self.is_live = "_live_" in secret_key
        self.page_origin = api_base or PAGE_ORIGIN
        self._webhook_secret = webhook_secret
        self._automatic_tax = automatic_tax
        self._promotion_codes = promotion_codes
        self._secret_key = secret_key
        self._api_base = api_base
        self._events_at_once = events_at_once

    @functools.cached_property
    def _client(self) -> "stripe.StripeClient":
        """The client. Access it in a thread, because the first access imports the SDK, which takes 0.2 seconds."""
        import stripe  # noqa: PLC0415

        return stripe.StripeClient(
            self._secret_key,
            base_addresses={} if self._api_base is None else {"api": self._api_base},
            max_network_retries=RETRIES,
            http_client=stripe.RequestsClient(),
        )

    async def open_checkout(self, order: Order, *, email: str, success_url: str, cancel_url: str) -> Checkout:
        params: Any = {
            "mode": "payment",
            "client_reference_id": order.id,
            "metadata": {ORDER_KEY: order.id},
            "payment_intent_data": {"metadata": {ORDER_KEY: order.id}},
            "customer_email": email,
            "line_items": [
                {
                    "quantity": order.quantity,
                    "price_data": {
                        "currency": order.currency,
                        "unit_amount": order.price_cents // order.quantity,
                        "product_data": {"name": f"{order.pack_name}: {order.tokens // order.quantity:,} tokens"},
                        "tax_behavior": "exclusive",
                    },
                }
            ],
            "success_url": success_url,
            "cancel_url": cancel_url,
            "adaptive_pricing": {"enabled": False},
            "automatic_tax": {"enabled": self._automatic_tax},
            "allow_promotion_codes": self._promotion_codes,
        }
        # Stripe rejects an idempotency key with different parameters, and the buyer's email address can change.
        key = f"{order.id}-{hashlib.sha256(msgspec.json.encode(params, order='sorted')).hexdigest()[:16]}"
        options: Any = {"idempotency_key": key}
        return _to_checkout(await self._call(lambda: self._client.v1.checkout.sessions.create(params, options)))

    async def checkout(self, checkout_id: str) -> Checkout:
        params: Any = {"expand": ["payment_intent"]}
        return _to_checkout(await self._call(lambda: self._client.v1.checkout.sessions.retrieve(checkout_id, params)))

    async def expire_checkout(self, checkout_id: str) -> Checkout:
        try:
            return _to_checkout(await self._call(lambda: self._client.v1.checkout.sessions.expire(checkout_id)))
        except CheckoutGone:
            raise
        except PaymentFailed:  # Stripe raises this for a checkout that is not open.
            checkout = await self.checkout(checkout_id)
            if checkout.is_open:
                raise
            return checkout

    async def refund(self, payment_id: str, *, cents: int, key: str) -> None:
        params: Any = {"payment_intent": payment_id, "amount": cents}
        await self._call(lambda: self._client.v1.refunds.create(params, {"idempotency_key": key}))

    def read_webhook(self, payload: bytes, signature: str | None, *, now_us: int) -> PaymentEvent:
        import stripe  # noqa: PLC0415

        if signature is None or len(signature) > SIGNATURE_CHARACTERS_MAX:
            raise SignatureInvalid("The webhook's signature is invalid.")
        try:
            stripe.WebhookSignature.verify_header(payload.decode(), signature, self._webhook_secret, TOLERANCE_SECONDS)
            signed_at = int(dict(part.split("=", 1) for part in signature.split(","))["t"])
        except (stripe.SignatureVerificationError, ValueError, LookupError, TypeError) as error:
            raise SignatureInvalid("The webhook's signature is invalid.") from error
        if signed_at > now_us // 1_000_000 + TOLERANCE_SECONDS:
            raise SignatureInvalid("The webhook was signed in the future.")
        try:
            return event_of(msgspec.json.decode(payload), now_us=now_us)
        except (ValueError, RecursionError) as error:
            raise SignatureInvalid("The body of the webhook is not an event in JSON.") from error

    async def events(self, *, since_us: int) -> AsyncIterator[PaymentEvent]:
        params: Any = {
            "created": {"gte": since_us // 1_000_000},
            "types": list(EVENT_TYPES),
            "limit": self._events_at_once,
        }
        while True:
            page = await self._call(lambda: self._client.v1.events.list(params))
            for item in page.data:
                try:
                    event = event_of(item.to_dict(), now_us=since_us)
                except ValueError as error:
                    raise PaymentFailed(detail="Stripe lists an event without an id") from error
                yield event
            if not page.has_more or not page.data:
                return
            params["starting_after"] = page.data[-1].id

    async def _call(self, call: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(_translate_errors, call)


def _translate_errors(call: Callable[[], Any]) -> Any:
    """Call the SDK. Raises `CheckoutGone` or `PaymentFailed`."""
    import stripe  # noqa: PLC0415

    try:
        return call()
    except stripe.StripeError as error:
        detail = f"{type(error).__name__}: {error.user_message or error}"
        if error.code == "resource_missing":
            raise CheckoutGone(detail=detail) from error
        raise PaymentFailed(detail=detail) from error


def event_of(values: object, *, now_us: int) -> PaymentEvent:
    """Convert Stripe's event. The fact of an event that can never be applied is `NotApplicable`.

    `now_us` replaces an invalid creation time. Raises `ValueError` without a valid event id.
    """
    if not isinstance(values, dict) or not _matches(EVENT_ID, values.get("id")):
        raise ValueError("the event has no valid id")
    kind = values.get("type")
    created = values.get("created")
    why = None
    if not _matches(EVENT_TYPE, kind):
        kind, why = UNREADABLE_TYPE, "its type is invalid"
    if type(created) is not int or not 0 <= created <= EVENT_TIME_SECONDS_MAX:
        created, why = now_us // 1_000_000, "its time is invalid"
    fact = _fact_of_event(str(kind), values) if why is None else NotApplicable(why=why)
    return PaymentEvent(id=values["id"], type=str(kind), created_at_us=created * 1_000_000, fact=fact)


def _fact_of_event(kind: str, values: dict[str, Any]) -> ProviderFact | None:
    if kind not in EVENT_TYPES:
        return None
    try:
        unchecked = msgspec.to_builtins(_fact_of_object(values["data"]["object"]))
        fact: ProviderFact | None = msgspec.convert(unchecked, ProviderFact | None)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        return NotApplicable(why=ascii(f"{type(error).__name__}: {error}")[1 : WHY_CHARACTERS_MAX + 1])
    if kind == FAILED_TYPE and isinstance(fact, Checkout):
        return msgspec.structs.replace(fact, outcome=UnpaidReason.FAILED)
    return fact


def _matches(pattern: "re.Pattern[str]", value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _to_checkout(session: Any) -> Checkout:
    """Convert and validate a checkout session in Stripe's response. Raises `PaymentFailed` if it is invalid."""
    try:
        return msgspec.convert(msgspec.to_builtins(_checkout(session.to_dict())), Checkout)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise PaymentFailed(detail=f"Stripe's response is invalid: {error}"[:WHY_CHARACTERS_MAX]) from error


def _fact_of_object(item: dict[str, Any]) -> ProviderFact | None:
    """Convert the object of an event. None if it doesn't belong to a payment of ours."""
    if item["object"] == "checkout.session":
        return _checkout(item) if item["mode"] == "payment" else None
    if item["object"] == "payment_intent":
        return _declined(item)
    payment_id = item["payment_intent"]
    if payment_id is None:
        return None
    if item["object"] == "charge":
        return Refunded(
            order_id=(item["metadata"] or {}).get(ORDER_KEY),
            payment_id=payment_id,
            cents=item["amount_refunded"],
            currency=item["currency"],
            livemode=item["livemode"],
        )
    if item["object"] == "dispute":
        status = _DECIDED.get(item["status"], DisputeStatus.OPEN)
        return Disputed(
            payment_id=payment_id,
            dispute=Dispute(id=item["id"], cents=item["amount"], status=status),
            currency=item["currency"],
            livemode=item["livemode"],
        )
    # Of the subscribed events, only `refund.failed` remains.
    return RefundFailed(payment_id=payment_id, cents=item["amount"])


def _declined(intent: dict[str, Any]) -> Declined | None:
    """Convert a payment intent whose last attempt failed. None without an order, or without a code of the failure."""
    order_id, decline_code = (intent["metadata"] or {}).get(ORDER_KEY), _decline_code(intent)
    if order_id is None or decline_code is None:
        return None
    return Declined(
        order_id=order_id,
        payment_id=intent["id"],
        decline_code=decline_code,
        currency=intent["currency"],
        livemode=intent["livemode"],
    )


def _decline_code(intent: dict[str, Any]) -> str | None:
    """Return the card issuer's reason, or else Stripe's error code, of the last attempt to pay."""
    error = intent.get("last_payment_error")
    return None if error is None else error.get("decline_code") or error.get("code")


def _checkout(session: dict[str, Any]) -> Checkout:
    """Convert a checkout session without validating its values. Its payment intent may be expanded."""
    outcome = None
    if session["status"] == "expired":
        outcome = UnpaidReason.EXPIRED
    intent = session["payment_intent"]
    return Checkout(
        id=session["id"],
        url=session["url"],
        order_id=session["client_reference_id"],
        payment_id=intent["id"] if isinstance(intent, dict) else intent,
        subtotal_cents=session["amount_subtotal"],
        total_cents=session["amount_total"],
        currency=session["currency"],
        livemode=session["livemode"],
        is_complete=session["status"] == "complete",
        is_paid=session["payment_status"] in {"paid", "no_payment_required"},
        outcome=outcome,
        tax_cents=(session.get("total_details") or {}).get("amount_tax"),
        decline_code=_decline_code(intent) if isinstance(intent, dict) else None,
    )
