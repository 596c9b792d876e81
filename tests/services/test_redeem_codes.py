"""Redeeming a code: granted once, typed in any spelling, and guessing is limited."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.fakes import FakeClock
from support.ledgers import ENGINES, Opened, open_engine, schema
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.domain.attempts import LIMITS, AttemptKind
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.forms import Submission
from tok0n.domain.orders import Redeemed
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.passwords import FormError
from tok0n.services.redeem_codes import DAYS_MAX, USES_MAX, RedeemCodes, create_code

pytestmark = pytest.mark.anyio


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine(request.param, tmp_path) as opened:
        yield opened


async def code_for(db: Opened, *, tokens: int = 7, uses_max: int = 1) -> str:
    return await create_code(
        SqlOrders(db.store), FakeClock(), tokens=tokens, uses_max=uses_max, days=None, reason="trial"
    )


async def account_in(db: Opened, email: str = "a@x") -> str:
    return (await db.accounts.create(email=email, tokens=0, now_us=1)).id


async def test_a_code_grants_its_tokens_once_in_any_spelling(db: Opened) -> None:
    redeem_codes = RedeemCodes(SqlOrders(db.store), SqlAttempts(db.store), FakeClock())
    account_id = await account_in(db)
    code = await code_for(db)
    assert await redeem_codes.redeem(account_id=account_id, code=f" {code.lower().replace('-', ' ')} ") == Redeemed(
        tokens=7
    )
    with pytest.raises(FormError):
        await redeem_codes.redeem(account_id=account_id, code=code)
    assert (await db.accounts.get("a@x")).balance.posted == 7


async def test_a_repeated_submission_returns_the_same_figure_and_grants_nothing_more(db: Opened) -> None:
    redeem_codes = RedeemCodes(SqlOrders(db.store), SqlAttempts(db.store), FakeClock())
    account_id = await account_in(db)
    form = Submission(account_id=account_id, form="redemption", form_id="x" * 22)
    code = await code_for(db)
    for _ in range(2):
        assert await redeem_codes.redeem(account_id=account_id, code=code, submission=form) == Redeemed(tokens=7)
    assert (await db.accounts.get("a@x")).balance.posted == 7


async def test_failed_guesses_are_limited_for_each_account_and_valid_codes_do_not_count(db: Opened) -> None:
    redeem_codes = RedeemCodes(SqlOrders(db.store), SqlAttempts(db.store), FakeClock())
    account_id, other = await account_in(db), await account_in(db, "b@x")
    limit = LIMITS[AttemptKind.REDEEM_CODE].attempts_max
    for _ in range(limit):
        assert await redeem_codes.redeem(account_id=account_id, code=await code_for(db)) == Redeemed(tokens=7)
    for number in range(limit):
        with pytest.raises(FormError, match="code"):
            await redeem_codes.redeem(account_id=account_id, code=f"AAAA-{number}")
    valid = await code_for(db)
    with pytest.raises(FormError, match="Too many"):
        await redeem_codes.redeem(account_id=account_id, code=valid)
    assert await redeem_codes.redeem(account_id=other, code=valid) == Redeemed(tokens=7)


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"tokens": 0}, "tokens"),
        ({"tokens": TOKENS_MAX + 1}, "tokens"),
        ({"uses_max": 0}, "uses"),
        ({"uses_max": USES_MAX + 1}, "uses"),
        ({"days": 0}, "days"),
        ({"days": DAYS_MAX + 1}, "days"),
        ({"reason": " "}, "reason"),
    ],
)
async def test_a_code_outside_its_limits_is_not_created(changed: dict[str, Any], param: str, tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        terms = {"tokens": 1, "uses_max": 1, "days": None, "reason": "trial"} | changed
        with pytest.raises(InvalidRequest) as error:
            await create_code(SqlOrders(db.store), FakeClock(), **terms)
        assert error.value.param == param
        assert await db.rows(schema.redeem_code) == []
