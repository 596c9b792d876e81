"""What the pages say about the payment of an order: paid, pending, declined, canceled, expired or failed."""

import msgspec

from tok0n.domain.orders import Order, OrderStatus
from tok0n.domain.payments import Checkout

STATUS_TEXTS = {
    OrderStatus.AWAITING_PAYMENT: "Awaiting payment",
    OrderStatus.PROCESSING: "Payment pending",
    OrderStatus.EXPIRED: "Expired",
    OrderStatus.FAILED: "Payment failed",
    OrderStatus.PAID: "Paid",
    OrderStatus.DISPUTED: "Disputed",
    OrderStatus.DISPUTE_LOST: "Dispute lost",
    OrderStatus.PARTIALLY_REFUNDED: "Partially refunded",
    OrderStatus.REFUNDED: "Refunded",
}

STATUS_KINDS = {
    OrderStatus.AWAITING_PAYMENT: "warn",
    OrderStatus.PROCESSING: "warn",
    OrderStatus.FAILED: "bad",
    OrderStatus.PAID: "good",
    OrderStatus.DISPUTED: "warn",
    OrderStatus.DISPUTE_LOST: "bad",
}
"""The kinds of the chips that are not plain."""

NOT_CHARGED = "You weren't charged."

_DECLINE_REASONS = {
    "insufficient_funds": "The card doesn't have enough funds.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code is wrong.",
    "invalid_cvc": "The security code is wrong.",
    "incorrect_number": "The card number is wrong.",
    "invalid_number": "The card number is wrong.",
    "invalid_expiry_month": "The expiry date is wrong.",
    "invalid_expiry_year": "The expiry date is wrong.",
    "incorrect_zip": "The postal code is wrong.",
    "incorrect_address": "The address doesn't match the card.",
    "card_not_supported": "The card doesn't support this kind of purchase.",
    "currency_not_supported": "The card doesn't support this currency.",
    "card_velocity_exceeded": "The card has reached its limit.",
    "withdrawal_count_limit_exceeded": "The card has reached its limit.",
    "authentication_required": "Your bank asked you to confirm the payment, and the confirmation failed.",
    "payment_intent_authentication_failure": "Your bank asked you to confirm the payment, and the confirmation failed.",
    "processing_error": "Your bank couldn't process the payment. Try again in a few minutes.",
    "try_again_later": "Your bank couldn't process the payment. Try again in a few minutes.",
    "issuer_not_available": "We couldn't reach your bank. Try again in a few minutes.",
}
"""Our words for the codes that Stripe reports (Stripe documentation, decline codes and error codes)."""

_NO_REASON = "Your bank didn't say why. Try another card, or ask your bank."


class PaymentNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice about a payment. `kind` is that of the component, and `title` its first, bold words."""

    kind: str
    title: str
    text: str


def decline_reason(decline_code: str) -> str:
    """Return why a card was declined, for the buyer."""
    return _DECLINE_REASONS.get(decline_code, _NO_REASON)


def payment_notice(
    order: Order, checkout: Checkout | None, *, is_unavailable: bool, is_canceled: bool
) -> PaymentNotice:
    """Return the notice of an order. `is_canceled` means that the buyer left the payment page.

    `checkout` is the current state at the provider, or None if it is not known; `is_unavailable` if it can't be read.
    """
    status = order.payment.status
    if status.is_pending and is_unavailable:
        text = "If you've paid, we'll add your tokens as soon as Stripe confirms it."
        return PaymentNotice(kind="warn", title="We can't reach Stripe right now.", text=text)
    if status is OrderStatus.AWAITING_PAYMENT:
        return _awaiting(order, checkout, is_canceled=is_canceled)
    return _ended(order, status)


def _awaiting(order: Order, checkout: Checkout | None, *, is_canceled: bool) -> PaymentNotice:
    decline_code = (checkout.decline_code if checkout is not None else None) or order.payment.decline_code
    if decline_code is not None:
        text = f"{decline_reason(decline_code)} {NOT_CHARGED}"
        return PaymentNotice(kind="bad", title="Your card was declined.", text=text)
    if is_canceled:
        title = "You left the payment page before you paid."
        return PaymentNotice(kind="warn", title=title, text=f"{NOT_CHARGED} You can still pay for this order.")
    return PaymentNotice(kind="warn", title="Awaiting payment.", text="We add the tokens as soon as you've paid.")


def _ended(order: Order, status: OrderStatus) -> PaymentNotice:
    title = f"{STATUS_TEXTS[status]}."
    match status:
        case OrderStatus.PROCESSING:
            text = "Your bank is still processing the payment. We add the tokens as soon as it arrives."
            return PaymentNotice(kind="warn", title=title, text=text)
        case OrderStatus.EXPIRED:
            text = f"The time to pay for this order has passed. {NOT_CHARGED}"
            return PaymentNotice(kind="", title="This order expired.", text=text)
        case OrderStatus.FAILED:
            code = order.payment.decline_code
            reason = "" if code not in _DECLINE_REASONS else f" {_DECLINE_REASONS[code]}"
            text = f"Your bank didn't complete the payment.{reason} {NOT_CHARGED}"
            return PaymentNotice(kind="bad", title=title, text=text)
        case OrderStatus.DISPUTED:
            text = "Its tokens are frozen until your bank has decided."
            return PaymentNotice(kind="warn", title="You dispute this payment.", text=text)
        case OrderStatus.DISPUTE_LOST:
            text = "Your bank returned the payment to you, so we removed the tokens."
            return PaymentNotice(kind="", title=title, text=text)
        case OrderStatus.REFUNDED | OrderStatus.PARTIALLY_REFUNDED:
            text = "We removed the tokens of the refund from your account."
            return PaymentNotice(kind="", title=title, text=text)
        case _:
            return PaymentNotice(kind="good", title=title, text="The tokens are in your account.")
