"""Buying packs: what is sold, the orders of an account and how far each has come, receipts, and codes."""

import contextlib

import msgspec
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tok0n.domain.errors import AlreadySubmitted, LimitReached, NotFound, PaymentFailed
from tok0n.domain.forms import Submission
from tok0n.domain.orders import DisputeStatus, Order
from tok0n.ports.orders import Orders
from tok0n.services.passwords import FormError
from tok0n.services.payments import Purchase, SellPacks
from tok0n.services.redeem_codes import RedeemCodes
from tok0n.web.dashboard.dashboard_ports import ROWS_A_PAGE, DashboardPorts
from tok0n.web.dashboard.submissions import submission_of
from tok0n.web.pages.endpoints import page_endpoint
from tok0n.web.pages.page_context import PageContext
from tok0n.web.pages.page_request import PageRequest


class SellerShown(msgspec.Struct, frozen=True, kw_only=True):
    """Who stands on receipts."""

    name: str
    address: str
    email: str
    tax_id: str


class OrderPages:
    """The pages. Without `sell_packs` nothing can be bought, and codes can still be redeemed."""

    def __init__(
        self,
        *,
        ports: DashboardPorts,
        orders: Orders,
        redeem_codes: RedeemCodes,
        sell_packs: SellPacks | None,
        seller: SellerShown,
    ) -> None:
        self._ports = ports
        self._orders = orders
        self._redeem_codes = redeem_codes
        self._sell_packs = sell_packs
        self._seller = seller

    def routes(self, context: PageContext) -> list[Route]:
        """Return the routes of buying, redeeming, orders and receipts."""
        both = ["GET", "POST"]
        return [
            Route("/dashboard/buy", page_endpoint(context, self._buy, private=True), methods=both),
            Route("/dashboard/redeem", page_endpoint(context, self._redeem, private=True), methods=["POST"]),
            Route("/dashboard/orders", page_endpoint(context, self._list, private=True)),
            Route("/dashboard/orders/{order}", page_endpoint(context, self._order, private=True)),
            Route("/dashboard/orders/{order}/receipt", page_endpoint(context, self._receipt, private=True)),
        ]

    async def _buy(self, page: PageRequest) -> Response:
        if self._sell_packs is None:
            return await self._shop(page)
        page.let_forms_lead_to(self._sell_packs.page_origin)
        if not page.is_post:
            return await self._shop(page)
        try:
            submission = submission_of(page, "order", field="pack")
            purchase = await self._sell_packs.buy(
                account_id=page.account_id,
                email=page.user.email,
                pack_id=page.form.get("pack", ""),
                submission=submission,
            )
            await self._remember(submission, purchase)
        except (NotFound, LimitReached, PaymentFailed) as error:
            return await self._shop(page, form_error=FormError(error.message, field="pack"))
        except FormError as form_error:
            return await self._shop(page, form_error=form_error)
        if purchase.url is None:
            return page.redirect(f"/dashboard/orders/{purchase.order_id}")
        return RedirectResponse(purchase.url, 303)

    async def _remember(self, submission: Submission, purchase: Purchase) -> None:
        """A form that led to an order which was open already leads there again, also once it is paid."""
        with contextlib.suppress(AlreadySubmitted):
            await self._ports.forms.claim(submission, result=purchase.order_id, now_us=self._ports.clock.now_us())

    async def _redeem(self, page: PageRequest) -> Response:
        try:
            submission = submission_of(page, "redemption", field="code")
            code = page.form.get("code", "")
            tokens = await self._redeem_codes.redeem(account_id=page.account_id, code=code, submission=submission)
        except FormError as form_error:
            return await self._shop(page, form_error=form_error)
        return page.message("Code redeemed", f"We added {tokens:,} tokens to your account.")

    async def _shop(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        return page.render(
            "buy.html",
            status=200 if form_error is None else 422,
            packs=[] if self._sell_packs is None else self._sell_packs.packs,
            debt=await self._orders.debt(page.account_id),
            form_error=form_error,
        )

    async def _list(self, page: PageRequest) -> Response:
        rows = await self._orders.of(
            page.account_id,
            before=page.query("before") or None,
            rows_max=ROWS_A_PAGE + 1,
            with_expired=False,
        )
        return page.render(
            "orders.html",
            orders=rows[:ROWS_A_PAGE],
            older=rows[ROWS_A_PAGE - 1].id if len(rows) > ROWS_A_PAGE else None,
            is_first=not page.query("before"),
            said={order.id: said(order) for order in rows},
        )

    async def _order(self, page: PageRequest) -> Response:
        order = await self._mine(page)
        if page.request.headers.get("hx-request") and _is_open(order):
            return Response(status_code=204)
        checkout, is_away = None, False
        if self._sell_packs is not None:
            try:
                order, checkout = await self._sell_packs.refresh(order)
            except PaymentFailed:
                is_away = True
        expects_money = order.payment.is_complete or is_away or page.query("paid") == "1"
        return page.render(
            "order.html",
            order=order,
            said=said(order),
            entries=await self._orders.entries(order.id),
            waits=_is_open(order) and expects_money,
            is_away=is_away,
            pay_url=checkout.url if checkout is not None and _is_open(order) and not expects_money else None,
            gave_up=page.query("paid") == "0",
        )

    async def _receipt(self, page: PageRequest) -> Response:
        order = await self._mine(page)
        if order.payment.paid_cents is None:
            raise NotFound("This order is not paid.")
        return page.render("order_receipt.html", order=order, seller=self._seller)

    async def _mine(self, page: PageRequest) -> Order:
        order = await self._orders.get(page.request.path_params["order"])
        if order.account_id != page.account_id:
            raise NotFound("There is no such order.")
        return order


def _is_open(order: Order) -> bool:
    """Whether it is neither paid nor over."""
    return order.payment.paid_cents is None and order.payment.outcome is None


def said(order: Order) -> str:
    """How far an order has come, in a few words."""
    payment = order.payment
    if payment.paid_cents is None:
        if payment.outcome is not None:
            return "Payment failed" if payment.outcome == "failed" else "Expired"
        return "Payment received, adding tokens" if payment.is_complete else "Awaiting payment"
    if any(dispute.status is DisputeStatus.OPEN for dispute in payment.disputes):
        return "Disputed, tokens frozen"
    if any(dispute.status is DisputeStatus.LOST for dispute in payment.disputes):
        return "Dispute lost"
    if payment.refunded_cents:
        return "Refunded" if payment.refunded_cents >= payment.paid_cents else "Partially refunded"
    return "Paid"
