"""Low-balance alerts: which thresholds are valid, and one email for each time that the balance falls below one."""

from pathlib import Path

import pytest

from support.ledgers import open_engine
from tok0n.adapters.sql.repositories.notices import SqlNotices
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import Balance
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.notices import LowBalances

pytestmark = pytest.mark.anyio


class FakeMailer:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def send(self, *, to: str, subject: str, text: str) -> None:
        self.sent.append((to, text))


async def test_an_alert_has_a_valid_threshold_or_none_and_is_emailed_once(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        mailer = FakeMailer()
        low_balances = LowBalances(SqlNotices(db.store), mailer, lambda path: f"https://tok0n.example{path}")
        account_id = (await db.accounts.create(email="a@x", tokens=0, now_us=1)).id
        await db.accounts.grant(email="a@x", tokens=5, reason="r", now_us=1)
        await low_balances.set_threshold(account_id, 5)
        for invalid in (0, -1, TOKENS_MAX + 1):
            with pytest.raises(InvalidRequest) as error:
                await low_balances.set_threshold(account_id, invalid)
            assert error.value.param == "threshold_tokens"
        assert await low_balances.threshold_tokens(account_id) == 5
        await low_balances.notify()
        assert mailer.sent == [], "5 tokens are not below 5"
        await db.accounts.grant(email="a@x", tokens=-1, reason="r", now_us=1)
        for _ in range(2):
            await low_balances.notify()
        ((to, text),) = mailer.sent
        assert (to, "https://tok0n.example/dashboard" in text) == ("a@x", True)
        await low_balances.set_threshold(account_id, None)
        assert await low_balances.threshold_tokens(account_id) is None


@pytest.mark.parametrize(
    ("token_classes", "sentence"),
    [
        (TokenClasses(), "Your balance is 4 tokens."),
        (TokenClasses({"premium": "Premium"}), "Your balance of Standard tokens is 4 tokens."),
    ],
)
async def test_an_alert_is_about_standard_tokens_and_says_so_if_there_are_others(
    tmp_path: Path, token_classes: TokenClasses, sentence: str
) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        mailer = FakeMailer()
        low_balances = LowBalances(SqlNotices(db.store), mailer, lambda path: path, token_classes)
        account_id = (await db.accounts.create(email="a@x", tokens=9, now_us=1)).id
        await db.accounts.grant(email="a@x", tokens=1, reason="r", now_us=1, token_class="premium")
        await low_balances.set_threshold(account_id, 5)
        await low_balances.notify()
        assert mailer.sent == [], "9 standard tokens are not below 5"
        await db.accounts.grant(email="a@x", tokens=-5, reason="r", now_us=1)
        await low_balances.notify()
        ((_, text),) = mailer.sent
        assert sentence in text


def test_a_balance_is_low_only_below_its_threshold() -> None:
    balance = Balance(posted=5, pending=5)
    assert [balance.is_below(threshold) for threshold in (None, 4, 5, 6)] == [False, False, False, True]
