"""The accounts whose pages are pictured beside the extreme one: a new one, a buyer's, and a suspended one."""

import contextlib
import json
import re
from collections.abc import AsyncIterator

import msgspec
import pyotp

from support.extreme_site import ExtremeSite, session_of
from support.fakes import FakeClock
from support.pages import create_key
from support.users import PASSWORD, join
from support.visitor import Visitor
from tok0n.services.operate_accounts import OperateAccounts
from tok0n.services.payments import SellPacks

NEWCOMER, BUYER, MAKER, PLAYER, SUSPENDED, SECURED = (
    f"{name}@example.com" for name in ("new", "buyer", "maker", "player", "suspended", "secured")
)
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """The session cookies of users by their names in `Shot`, and paths that contain ids or secrets by their names."""

    cookies: dict[str, str]
    paths: dict[str, str]


@contextlib.asynccontextmanager
async def _signed_up(site: ExtremeSite, email: str) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as visitor:
        await join(visitor, site.mailbox, email)
        yield visitor


async def open_accounts(site: ExtremeSite, clock: FakeClock) -> Accounts:
    """Create the accounts, what they contain, and emailed links that work."""
    cookies = {"owner": site.cookie}
    async with _signed_up(site, NEWCOMER) as newcomer:
        cookies["newcomer"] = session_of(newcomer)
        links = await _links(site, newcomer)
    async with _signed_up(site, BUYER) as buyer:
        cookies["buyer"] = session_of(buyer)
        orders = await _Orders(site, buyer, clock).make()
        await create_key(buyer, name="laptop")
    async with _signed_up(site, MAKER) as maker:
        cookies["maker"] = session_of(maker)
    operate = OperateAccounts(site.running.store.accounts, clock, corrections=site.running.store.corrections)
    async with _signed_up(site, PLAYER) as player:
        cookies["player"] = session_of(player)
        await create_key(player, name="laptop")
        await operate.grant(email=PLAYER, tokens=1_000_000, reason="for the playground")
    async with _signed_up(site, SUSPENDED) as suspended:
        cookies["suspended"] = session_of(suspended)
        await operate.suspend(SUSPENDED, reason="fraud")
    async with _signed_up(site, SECURED) as secured:
        cookies["secured"] = session_of(secured)
        cookies["waiting"] = await _turn_on_two_factor(site, secured, clock)
    await _roll_up(site, clock)
    return Accounts(cookies=cookies, paths=links | orders)


async def _links(site: ExtremeSite, newcomer: Visitor) -> dict[str, str]:
    """Return a working link of each kind."""
    sign_in = site.running.sign_in
    await newcomer.post(
        "/dashboard/settings", {"change": "email", "email": "newer@example.com", "email_password": PASSWORD}
    )
    links = {"new-address": await site.mailbox.take_link("newer@example.com")}
    async with Visitor(site.url) as visitor:
        await visitor.post("/sign-up", {"email": "unconfirmed@example.com", "password": PASSWORD})
        links["verify"] = await site.mailbox.take_link("unconfirmed@example.com")
        await visitor.post("/reset-password", {"email": NEWCOMER})
        links["new-password"] = await site.mailbox.take_link(NEWCOMER)
    urls = {
        "invitation": await sign_in.invite("invited@example.com"),
        "set-up": await sign_in.create_set_up_url() or "",
    }
    return links | {name: re.sub(r"^https?://[^/]+", "", url) for name, url in urls.items()}


async def _turn_on_two_factor(site: ExtremeSite, secured: Visitor, clock: FakeClock) -> str:
    """Turn on two-factor authentication, and return the cookie of a session that waits for a code."""
    code = pyotp.TOTP(TOTP_SECRET).at(clock.now_us() // 1_000_000)
    fields = {"secret": TOTP_SECRET, "code": code, "password": PASSWORD}
    answer = await secured.post("/dashboard/settings/second-factor", fields)
    assert "Save these recovery codes" in answer.text, answer.text
    async with Visitor(site.url) as waiting:
        await waiting.sign_in(SECURED, PASSWORD)
        return session_of(waiting)


async def _roll_up(site: ExtremeSite, clock: FakeClock) -> None:
    """Run the roll-ups now, because a periodic task would run them while pictures are taken, and change the pages."""
    store = site.running.store
    while await store.outcome_rollup.roll_up(now_us=clock.now_us()):
        pass
    while await store.daily_use.roll_up(now_us=clock.now_us(), accounts_max=100):
        pass


class _Orders:
    """Makes an order in each state, as Stripe reports it."""

    def __init__(self, site: ExtremeSite, buyer: Visitor, clock: FakeClock) -> None:
        assert site.running.sell_packs is not None
        self._sell_packs: SellPacks = site.running.sell_packs
        self._store = site.running.store
        self._stripe = site.stripe
        self._buyer = buyer
        self._clock = clock
        self._delivered = 0
        self._stripe.webhook_url = None  # `_deliver` signs with the time of our clock

    async def make(self) -> dict[str, str]:
        """Return the paths of the orders, and of documents."""
        paid, invoice = await self._paid(1)
        refunded, _ = await self._paid(2, refunded_cents=125)
        disputed, _ = await self._paid(3, dispute="needs_response")
        lost, _ = await self._paid(4, dispute="lost")
        note = (await self._documents(refunded))[-1]
        expired, page = await self._order(5)
        self._stripe.expire(page)
        failed, page = await self._order(6)
        self._stripe.pay(page, later=True)
        self._stripe.fail_later(page)
        pending, page = await self._order(7)
        self._stripe.pay(page, later=True)
        declined, page = await self._order(8)
        self._stripe.decline(page, decline_code="insufficient_funds")
        awaiting, _ = await self._order(9)
        await self._deliver()
        return {
            "order-paid": paid,
            "order-partially-refunded": refunded,
            "order-disputed": disputed,
            "order-dispute-lost": lost,
            "order-expired": expired,
            "order-failed": failed,
            "order-pending": pending,
            "order-declined": declined,
            "order-awaiting-payment": awaiting,
            "order-canceled": f"{awaiting}?paid=0",
            "invoice": invoice,
            "credit-note": note,
        }

    async def _order(self, quantity: int) -> tuple[str, str]:
        """Order packs. Returns the path of the order and the id of its Stripe session."""
        self._clock.advance(60)
        fields = {"pack": "starter", "quantity-starter": str(quantity)}
        answer = await self._buyer.post("/dashboard/buy", fields)
        page = answer.headers["location"].rpartition("/")[2]
        success_url: str = self._stripe.sessions[page]["success_url"]
        return "/dashboard/orders/" + success_url.partition("/orders/")[2].partition("?")[0], page

    async def _paid(self, quantity: int, *, refunded_cents: int = 0, dispute: str = "") -> tuple[str, str]:
        """Pay for an order. Returns its path and that of its invoice."""
        path, page = await self._order(quantity)
        self._stripe.pay(page)
        await self._deliver()
        order = await self._store.orders.get(path.rpartition("/")[2])
        assert order.payment_id is not None
        if refunded_cents:
            await self._sell_packs.refund(order.id, cents=refunded_cents)
        if dispute:
            self._stripe.dispute(order.payment_id, status="needs_response", cents=order.price_cents)
            await self._deliver()
        if dispute == "lost":
            self._stripe.dispute(order.payment_id, status=dispute, cents=order.price_cents)
        await self._deliver()
        return path, (await self._documents(path))[0]

    async def _documents(self, path: str) -> list[str]:
        page = await self._buyer.get(path)
        return list(dict.fromkeys(re.findall(rf'"({path}/documents/[^"]+)"', page.text)))

    async def _deliver(self) -> None:
        """Deliver the events that Stripe reported since the last time."""
        events = self._stripe.events[self._delivered :]
        self._delivered += len(events)
        for event in events:
            payload = json.dumps(event).encode()
            at = self._clock.now_us() // 1_000_000
            await self._sell_packs.receive(payload, self._stripe.sign(payload, at=at))
        await self._sell_packs.handle_all()
