"""How customers get tokens: a pack if one is sold, else a code if there is one, else support."""

import pytest
import sqlalchemy as sa

from support.fakes import FakeClock
from support.ledgers import Opened
from support.query_plans import explained
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.repositories.usable_codes import SqlUsableCodes
from tok0n.adapters.sql.schema import redeem_code
from tok0n.domain.errors import InsufficientTokens
from tok0n.domain.token_source import TokenSource
from tok0n.services.token_sources import CODES_CACHE_SECONDS, TokenSources

pytestmark = pytest.mark.anyio

BASE = "https://tok0n.example"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make_sources(db: Opened, clock: FakeClock, *sold: str, support: str = "support") -> TokenSources:
    codes = SqlUsableCodes(db.store)
    return TokenSources(codes, clock, sold_classes=sold, url_of=BASE.__add__, support=support)


async def create_code(db: Opened, digest: bytes, *, now_us: int, expires_at_us: int | None = None) -> None:
    await SqlOrders(db.store).create_code(
        digest=digest, masked="m", tokens=1, uses_max=2, expires_at_us=expires_at_us, reason="r", now_us=now_us
    )


async def test_packs_come_before_codes_and_codes_before_support(db: Opened, clock: FakeClock) -> None:
    shop, service = make_sources(db, clock, "standard"), make_sources(db, clock)
    assert (await shop.find(), await service.find()) == (TokenSource.BUY, TokenSource.SUPPORT)
    assert await shop.find("premium") is TokenSource.SUPPORT, "no pack has tokens of this class"
    await create_code(db, b"c", now_us=clock.now_us())
    assert await service.find() is TokenSource.SUPPORT, "codes are looked up twice a minute at most"
    clock.advance(CODES_CACHE_SECONDS)
    assert [await sources.find("premium") for sources in (shop, service)] == [TokenSource.REDEEM] * 2


async def test_a_used_or_expired_code_is_no_source(db: Opened, clock: FakeClock) -> None:
    codes = SqlUsableCodes(db.store)
    now_us = clock.now_us()
    await create_code(db, b"expires", now_us=now_us, expires_at_us=now_us + 1)
    assert await codes.exist(now_us=now_us)
    assert not await codes.exist(now_us=now_us + 1)
    await create_code(db, b"forever", now_us=now_us)
    assert await codes.exist(now_us=now_us + 1)
    await db.store.write(lambda tx: tx.execute(sa.update(redeem_code).values(uses=2)) and None)
    assert not await codes.exist(now_us=now_us)


async def test_looking_for_a_code_reads_no_used_ones(db: Opened, clock: FakeClock) -> None:
    now_us = clock.now_us()
    for number in range(300):
        await create_code(db, str(number).encode(), now_us=now_us)
    await db.store.write(lambda tx: tx.execute(sa.update(redeem_code).values(uses=2)) and None)
    with explained() as scans:
        assert not await SqlUsableCodes(db.store).exist(now_us=now_us)
    assert scans == []


async def test_the_advice_is_a_link_or_says_whom_to_ask(db: Opened, clock: FakeClock) -> None:
    buy = f"{BASE}/dashboard/buy"
    assert await make_sources(db, clock, "standard").advice("standard") == f"Buy tokens: {buy}"
    premium = make_sources(db, clock, "premium")
    assert await premium.advice("premium", is_named=True) == f"Buy tokens of the class premium: {buy}"
    asked = make_sources(db, clock, support="help@example.com")
    expected = "Tokens on this service are granted, not sold. Contact help@example.com to get tokens."
    assert await asked.advice("standard") == expected
    await create_code(db, b"c", now_us=clock.now_us())
    assert await make_sources(db, clock).advice("standard") == f"Redeem a code for tokens: {buy}"


@pytest.mark.parametrize(
    ("largest", "field", "consequence"),
    [
        (0, "max_completion_tokens", ", so no max_completion_tokens fits."),
        (120, "max_tokens", ". Lower max_tokens to 120 or less."),
        (0, "", ". Send less input."),
    ],
)
def test_the_402_says_what_was_needed_what_there_is_and_how_to_get_more(
    largest: int, field: str, consequence: str
) -> None:
    error = InsufficientTokens(
        required=738,
        posted=0,
        pending=0,
        largest_output_tokens=largest,
        limit_field=field,
        advice="Buy tokens: https://HOST/dashboard/buy",
    )
    assert error.message == (
        "This request needs up to 738 tokens. Your account has 0 available and 0 reserved by requests in progress"
        f"{consequence} Buy tokens: https://HOST/dashboard/buy"
    )
