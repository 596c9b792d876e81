"""The pages to buy packs, redeem codes, and view orders and receipts."""

import functools

import msgspec
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tok0n.domain.errors import LimitReached, NotFound, PaymentFailed
from tok0n.domain.orders import Order, OrderStatus
from tok0n.ports.orders import Orders
from tok0n.services.passwords import FormError
from tok0n.services.payments import SellPacks
from tok0n.services.redeem_codes import RedeemCodes
from tok0n.web.dashboard.dashboard_context import DashboardContext, page_of
from tok0n.web.dashboard.submissions import submission_of
from tok0n.web.rendering.endpoints import GET_POST, POST, page_route
from tok0n.web.rendering.pack_groups import packs_by_class
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """The seller on receipts."""

    name: str
    address: str
    email: str
    tax_id: str


STATUS_TEXTS = {
    OrderStatus.AWAITING_PAYMENT: "Awaiting payment",
    OrderStatus.PROCESSING: "Payment received, adding tokens",
    OrderStatus.EXPIRED: "Expired",
    OrderStatus.FAILED: "Payment failed",
    OrderStatus.PAID: "Paid",
    OrderStatus.DISPUTED: "Disputed, tokens frozen",
    OrderStatus.DISPUTE_LOST: "Dispute lost",
    OrderStatus.PARTIALLY_REFUNDED: "Partially refunded",
    OrderStatus.REFUNDED: "Refunded",
}


class OrderPages:
    """The pages of orders. Without `sell_packs`, users can redeem codes but can't buy packs."""

    def __init__(
        self,
        *,
        dashboard: DashboardContext,
        orders: Orders,
        redeem_codes: RedeemCodes,
        sell_packs: SellPacks | None,
        seller: Seller,
    ) -> None:
        self._dashboard = dashboard
        self._orders = orders
        self._redeem_codes = redeem_codes
        self._sell_packs = sell_packs
        self._seller = seller

    def routes(self, context: PageContext) -> list[Route]:
        """Return the routes of buying, redeeming, orders and receipts."""
        return [
            page_route(context, "/dashboard/buy", self._buy, methods=GET_POST, needs_open_account=True),
            page_route(context, "/dashboard/redeem", self._redeem, methods=POST, needs_open_account=True),
            page_route(context, "/dashboard/orders", self._list),
            page_route(context, "/dashboard/orders/{order}", self._order),
            page_route(context, "/dashboard/orders/{order}/receipt", self._receipt),
        ]

    async def _buy(self, page: PageRequest) -> Response:
        if self._sell_packs is None:
            return await self._shop(page)
        page.allow_form_target(self._sell_packs.page_origin)
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
        except (NotFound, LimitReached, PaymentFailed) as error:
            return await self._shop(page, form_error=FormError(error.message, field="pack"))
        except FormError as form_error:
            return await self._shop(page, form_error=form_error)
        if purchase.url is None:
            return page.redirect(f"/dashboard/orders/{purchase.order_id}")
        return RedirectResponse(purchase.url, 303)

    async def _redeem(self, page: PageRequest) -> Response:
        try:
            submission = submission_of(page, "redemption", field="code")
            code = page.form.get("code", "")
            redeemed = await self._redeem_codes.redeem(account_id=page.account_id, code=code, submission=submission)
        except FormError as form_error:
            return await self._shop(page, form_error=form_error)
        classes = await self._dashboard.classes(page)
        of_class = f" ({classes[redeemed.token_class]})" if classes else ""
        return page.message("Code redeemed", f"We added {redeemed.tokens:,} tokens{of_class} to your account.")

    async def _shop(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        packs = [] if self._sell_packs is None else self._sell_packs.packs
        return page.render(
            "buy.html",
            packs_by_class=packs_by_class(packs, self._dashboard.token_classes),
            classes=await self._dashboard.classes(page),
            debts=await self._orders.debts(page.account_id),
            form_error=form_error,
        )

    async def _list(self, page: PageRequest) -> Response:
        fetch = functools.partial(self._orders.of, page.account_id, with_expired=False)
        rows = await page_of(fetch, before=page.query("before") or None)
        return page.render(
            "orders.html", **rows, status_texts=STATUS_TEXTS, classes=await self._dashboard.classes(page)
        )

    async def _order(self, page: PageRequest) -> Response:
        order = await self._get(page)
        if page.request.headers.get("hx-request") and order.payment.status.is_pending:
            return Response(status_code=204)
        checkout, is_unavailable = None, False
        if self._sell_packs is not None:
            try:
                order, checkout = await self._sell_packs.refresh(order)
            except PaymentFailed:
                is_unavailable = True
        is_pending = order.payment.status.is_pending
        expects_money = order.payment.is_complete or is_unavailable or page.query("paid") == "1"
        may_pay = is_pending and not page.user.is_suspended
        return page.render(
            "order.html",
            order=order,
            classes=await self._dashboard.classes(page),
            status_text=STATUS_TEXTS[order.payment.status],
            entries=await self._orders.entries(account_id=page.account_id, order_id=order.id),
            is_waiting=is_pending and expects_money,
            is_unavailable=is_unavailable,
            pay_url=checkout.url if may_pay and checkout is not None and not expects_money else None,
            is_canceled=page.query("paid") == "0",
        )

    async def _receipt(self, page: PageRequest) -> Response:
        order = await self._get(page)
        if order.payment.paid_cents is None:
            raise NotFound("This order is not paid.")
        classes = await self._dashboard.classes(page)
        return page.render("order_receipt.html", order=order, classes=classes, seller=self._seller)

    async def _get(self, page: PageRequest) -> Order:
        return await self._orders.get_in_account(account_id=page.account_id, order_id=page.request.path_params["order"])
