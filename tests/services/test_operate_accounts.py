"""The operator's rules of accounts: amounts, reasons and email addresses are checked before anything is written."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fakes import FakeClock
from support.ledgers import Opened, open_engine
from tok0n.adapters.sql.repositories.corrections import SqlCorrections
from tok0n.domain.errors import AlreadyExists, InvalidRequest, NotFound, OperatorError
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.checks import REASON_CHARACTERS_MAX
from tok0n.services.operate_accounts import OperateAccounts

pytestmark = pytest.mark.anyio


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine("sqlite", tmp_path) as opened:
        yield opened


@pytest.fixture
def accounts(db: Opened) -> OperateAccounts:
    return OperateAccounts(db.accounts, FakeClock(), corrections=SqlCorrections(db.store))


async def test_an_account_is_found_by_any_spelling_of_its_email_address(accounts: OperateAccounts) -> None:
    created = await accounts.create(email=" A@Example.com ", tokens=7)
    assert (created.email, created.balance.posted) == ("a@example.com", 7)
    assert await accounts.get("a@EXAMPLE.com") == created
    assert await accounts.list_all() == [created]
    with pytest.raises(AlreadyExists):
        await accounts.create(email="a@example.com")
    with pytest.raises(OperatorError):
        await accounts.create(email="nonsense")
    with pytest.raises(NotFound):
        await accounts.get("b@example.com")


@pytest.mark.parametrize("tokens", [0, -1, TOKENS_MAX + 1])
async def test_an_amount_outside_its_limits_grants_nothing(accounts: OperateAccounts, tokens: int) -> None:
    with pytest.raises(InvalidRequest) as opening:
        await accounts.create(email="a@x.example", tokens=tokens)
    assert opening.value.param == "tokens"
    await accounts.create(email="a@x.example")
    with pytest.raises(InvalidRequest) as granting:
        await accounts.grant(email="a@x.example", tokens=tokens, reason="trial")
    assert granting.value.param == "tokens"
    assert (await accounts.get("a@x.example")).balance.posted == 0


async def test_a_grant_needs_a_reason(accounts: OperateAccounts) -> None:
    await accounts.create(email="a@x.example")
    for reason in ("", " ", "r" * (REASON_CHARACTERS_MAX + 1)):
        with pytest.raises(InvalidRequest) as error:
            await accounts.grant(email="a@x.example", tokens=5, reason=reason)
        assert error.value.param == "reason"
    assert (await accounts.grant(email="a@x.example", tokens=5, reason=" trial ")).balance.posted == 5
