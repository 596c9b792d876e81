"""The pages to buy packs, redeem codes, and view orders and their documents."""

import functools

import msgspec
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tok0n.domain.billing import BillingDetails
from tok0n.domain.documents import DocumentKind
from tok0n.domain.errors import InvalidRequest, LimitReached, NotFound, PaymentFailed
from tok0n.domain.orders import CHECKOUT_LIFETIME_US, QUANTITY_MAX, Order
from tok0n.domain.payments import Checkout
from tok0n.ports.orders import Orders
from tok0n.services.billing import AccountBilling
from tok0n.services.documents import OrderDocuments
from tok0n.services.passwords import FormError
from tok0n.services.payments import Purchase, SellPacks
from tok0n.services.redeem_codes import RedeemCodes
from tok0n.web.dashboard.billing_form import billing_fields, save_billing
from tok0n.web.dashboard.dashboard_context import DashboardContext, fetch_rows
from tok0n.web.dashboard.order_texts import STATUS_KINDS, STATUS_TEXTS, payment_notice
from tok0n.web.dashboard.submissions import submission_of, whole_number
from tok0n.web.rendering.pack_groups import packs_by_class
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, POST, page_route

DOCUMENT_TITLES = {
    DocumentKind.INVOICE: "Invoice",
    DocumentKind.RECEIPT: "Receipt",
    DocumentKind.CREDIT_NOTE: "Credit note",
}
_FORM_NAME_CHARACTERS_MAX = 100


class OrderServices(msgspec.Struct, frozen=True, kw_only=True):
    """The services behind these pages. Without `sell_packs`, users can redeem codes but can't buy packs."""

    orders: Orders
    documents: OrderDocuments
    billing: AccountBilling
    redeem_codes: RedeemCodes
    sell_packs: SellPacks | None


class OrderPages:
    """The pages of buying, orders and documents."""

    def __init__(self, dashboard: DashboardContext, services: OrderServices) -> None:
        self._dashboard = dashboard
        self._services = services
        self._orders = services.orders
        self._sell_packs = services.sell_packs

    def routes(self, context: PageContext) -> list[Route]:
        """Return the routes of buying, redeeming, orders and documents."""
        return [
            page_route(context, "/dashboard/buy", self._buy, methods=GET_POST, needs_open_account=True),
            page_route(context, "/dashboard/redeem", self._redeem, methods=POST, needs_open_account=True),
            page_route(context, "/dashboard/orders", self._list),
            page_route(context, "/dashboard/orders/{order}", self._order),
            page_route(context, "/dashboard/orders/{order}/receipt", self._receipt),
            page_route(context, "/dashboard/orders/{order}/documents/{number}", self._document),
        ]

    async def _buy(self, page: PageRequest) -> Response:
        if self._sell_packs is None:
            return await self._shop(page)
        page.allow_form_target(self._sell_packs.page_origin)
        if not page.is_post:
            return await self._shop(page)
        try:
            billing = await save_billing(page, self._services.billing)
            if "save" in page.form:
                return page.redirect("/dashboard/buy?saved=1#billing")
            purchase = await self._purchase(page, self._sell_packs, billing)
        except (NotFound, LimitReached, PaymentFailed) as error:
            return await self._shop(page, form_error=FormError(error.message, field="pack"))
        except FormError as form_error:
            return await self._shop(page, form_error=form_error)
        if purchase.url is None:
            return page.redirect(f"/dashboard/orders/{purchase.order_id}")
        return RedirectResponse(purchase.url, 303)

    async def _purchase(self, page: PageRequest, sell_packs: SellPacks, billing: BillingDetails) -> Purchase:
        """Order the packs in the form. Raises `FormError`, and the errors of `SellPacks.buy`."""
        pack_id = page.form.get("pack", "")
        quantity = whole_number(page, f"quantity-{pack_id}")
        quantity = 1 if quantity is None else quantity
        # The form has a button for each pack, and a browser may show it again: one purchase for each pack and quantity.
        form = f"order {quantity} {pack_id}"[:_FORM_NAME_CHARACTERS_MAX]
        submission = submission_of(page, form, field="pack")
        try:
            return await sell_packs.buy(
                account_id=page.account_id,
                email=page.session.email,
                pack_id=pack_id,
                quantity=quantity,
                billing=billing,
                submission=submission,
            )
        except InvalidRequest as error:
            raise FormError(error.message, field=f"quantity-{pack_id}") from None

    async def _redeem(self, page: PageRequest) -> Response:
        try:
            submission = submission_of(page, "redemption", field="code")
            code = page.form.get("code", "")
            redeemed = await self._services.redeem_codes.redeem(
                account_id=page.account_id, code=code, submission=submission
            )
        except FormError as form_error:
            return await self._shop(page, form_error=form_error)
        classes = await self._dashboard.class_titles(page)
        of_class = f" ({classes[redeemed.token_class]})" if classes else ""
        return page.message("Code redeemed", f"We added {redeemed.tokens:,} tokens{of_class} to your account.")

    async def _shop(self, page: PageRequest, *, form_error: FormError | None = None) -> Response:
        packs = [] if self._sell_packs is None else self._sell_packs.packs
        return page.render(
            "buy.html",
            packs_by_class=packs_by_class(packs, self._dashboard.token_classes),
            classes=await self._dashboard.class_titles(page),
            debts=await self._orders.debts(page.account_id),
            billing=await billing_fields(page, self._services.billing),
            quantity_max=QUANTITY_MAX,
            is_saved=page.query("saved") == "1",
            form_error=form_error,
        )

    async def _list(self, page: PageRequest) -> Response:
        now_us = self._dashboard.clock.now_us()
        fetch = functools.partial(self._orders.list_for_account, page.account_id, expired_at_us=now_us)
        rows = await fetch_rows(fetch, before=page.query("before") or None)
        order_ids = [order.id for order in rows["rows"]]
        return page.render(
            "orders.html",
            **rows,
            numbers=await self._services.documents.numbers(page.account_id, order_ids),
            status_texts=STATUS_TEXTS,
            status_kinds=STATUS_KINDS,
            sells=self._sell_packs is not None,
            classes=await self._dashboard.class_titles(page),
        )

    async def _order(self, page: PageRequest) -> Response:
        order = await self._get(page)
        if page.request.headers.get("hx-request") and order.payment.status.is_pending:
            return Response(status_code=204)
        order, checkout, is_unavailable = await self._refresh(order)
        is_pending = order.payment.status.is_pending
        expects_money = order.payment.is_complete or is_unavailable or page.query("paid") == "1"
        may_pay = is_pending and not page.session.is_suspended
        is_canceled = page.query("paid") == "0"
        return page.render(
            "order.html",
            order=order,
            classes=await self._dashboard.class_titles(page),
            documents=await self._services.documents.list_for_order(order),
            document_titles=DOCUMENT_TITLES,
            status_text=STATUS_TEXTS[order.payment.status],
            status_kind=STATUS_KINDS.get(order.payment.status, ""),
            notice=payment_notice(order, checkout, is_unavailable=is_unavailable, is_canceled=is_canceled),
            entries=await self._orders.entries(account_id=page.account_id, order_id=order.id),
            is_waiting=is_pending and expects_money,
            pay_url=checkout.url if may_pay and checkout is not None and not expects_money else None,
            expires_at_us=order.created_at_us + CHECKOUT_LIFETIME_US,
            may_buy_again=not is_pending and order.payment.paid_cents is None and self._sell_packs is not None,
        )

    async def _refresh(self, order: Order) -> tuple[Order, Checkout | None, bool]:
        """Return the order and its checkout at the provider, and whether the provider can't be reached."""
        if self._sell_packs is None:
            return order, None, False
        try:
            return *await self._sell_packs.refresh(order), False
        except PaymentFailed:
            return order, None, True

    async def _receipt(self, page: PageRequest) -> Response:
        documents = await self._services.documents.list_for_order(await self._get(page))
        if not documents:
            raise NotFound("This order is not paid.")
        return page.redirect(f"/dashboard/orders/{documents[0].order_id}/documents/{documents[0].number}")

    async def _document(self, page: PageRequest) -> Response:
        order = await self._get(page)
        number = page.request.path_params["number"]
        for document in await self._services.documents.list_for_order(order):
            if document.number == number:
                return page.render("document.html", document=document, title=DOCUMENT_TITLES[document.kind])
        raise NotFound("There is no such document.")

    async def _get(self, page: PageRequest) -> Order:
        return await self._orders.get_in_account(account_id=page.account_id, order_id=page.request.path_params["order"])
