"""Alerts: valid thresholds, one email when the balance falls below one, and one for each share of a budget."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from support.fakes import FakeClock
from support.ledgers import Opened, open_engine
from tok0n.adapters.sql.repositories.balance_alerts import SqlBalanceAlerts
from tok0n.adapters.sql.repositories.notices import SqlPreferences
from tok0n.adapters.sql.repositories.usable_codes import SqlUsableCodes
from tok0n.domain.budgets import KeyBudget, ResetPeriod, SpentBudget
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import Balance
from tok0n.domain.notices import BalanceAlert, NoticeChannel, NoticeKind
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.mail import MailBrand
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.notices import BudgetAlerts, LowBalances
from tok0n.services.token_sources import TokenSources

pytestmark = pytest.mark.anyio

BASE = "https://tok0n.example"


def sources(db: Opened, *, sold: Sequence[str] = ()) -> TokenSources:
    return TokenSources(SqlUsableCodes(db.store), FakeClock(), sold_classes=sold, url_of=BASE.__add__)


class FakeBudgetNotices:
    """The `BudgetNotices` port. Each of `due` is claimed once."""

    def __init__(self, *due: SpentBudget) -> None:
        self._due = list(due)

    async def claim_due(self, *, now_us: int, rows_max: int) -> list[SpentBudget]:
        due, self._due = self._due, []
        return due


class FakePreferences:
    """The `Preferences` port. Only `off` is turned off."""

    def __init__(self, *off: NoticeKind) -> None:
        self._off = {(str(kind), str(NoticeChannel.EMAIL)) for kind in off}

    async def turned_off(self, account_id: str) -> set[tuple[str, str]]:
        return self._off

    async def replace(self, account_id: str, values: Mapping[tuple[str, str], bool]) -> None:
        raise AssertionError(values)


def preferences(db: Opened) -> NoticePreferences:
    return NoticePreferences(SqlPreferences(db.store))


class FakeMailer:
    brand = MailBrand()

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def send(self, *, to: str, subject: str, text: str) -> None:
        self.sent.append((to, text))


async def test_an_alert_has_a_valid_threshold_or_none_and_is_emailed_once(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        mailer = FakeMailer()
        low_balances = LowBalances(
            SqlBalanceAlerts(db.store), preferences(db), mailer, BASE.__add__, sources(db, sold=["standard"])
        )
        account_id = (await db.accounts.create(email="a@x", tokens=0, now_us=1)).id
        await db.accounts.grant(email="a@x", tokens=5, reason="r", now_us=1)
        await low_balances.set_alerts(account_id, [BalanceAlert(threshold_tokens=5)])
        for invalid in (0, -1, TOKENS_MAX + 1):
            with pytest.raises(InvalidRequest) as error:
                await low_balances.set_alerts(account_id, [BalanceAlert(threshold_tokens=invalid)])
            assert error.value.param == "threshold_tokens"
        assert await low_balances.threshold_tokens(account_id) == 5
        await low_balances.notify()
        assert mailer.sent == [], "5 tokens are not below 5"
        await db.accounts.grant(email="a@x", tokens=-1, reason="r", now_us=1)
        for _ in range(2):
            await low_balances.notify()
        ((to, text),) = mailer.sent
        assert to == "a@x"
        assert f"View your balance: {BASE}/dashboard\n" in text
        assert f"Buy tokens: {BASE}/dashboard/buy\n" in text
        await low_balances.set_alerts(account_id, [])
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
        low_balances = LowBalances(SqlBalanceAlerts(db.store), preferences(db), mailer, str, sources(db), token_classes)
        account_id = (await db.accounts.create(email="a@x", tokens=9, now_us=1)).id
        await db.accounts.grant(email="a@x", tokens=1, reason="r", now_us=1, token_class="premium")
        await low_balances.set_alerts(account_id, [BalanceAlert(threshold_tokens=5)])
        await low_balances.notify()
        assert mailer.sent == [], "9 standard tokens are not below 5"
        await db.accounts.grant(email="a@x", tokens=-5, reason="r", now_us=1)
        await low_balances.notify()
        ((_, text),) = mailer.sent
        assert sentence in text
        assert "Tokens on this service are granted, not sold." in text


@pytest.mark.parametrize(("percent", "is_rejected"), [(80, False), (100, True)])
async def test_the_email_names_the_key_the_budget_and_its_reset(percent: int, *, is_rejected: bool) -> None:
    budget = KeyBudget(id="b", tokens=1_000, period=ResetPeriod.DAY, token_class="premium", time_zone="Asia/Kolkata")
    spent = SpentBudget(
        account_id="acct_1",
        email="a@x",
        api_key_id="key_1",
        key_name="laptop {x}",
        budget=budget,
        spent=percent * 10,
        percent=percent,
    )
    mailer = FakeMailer()
    url_of = "https://tok0n.example{}".format
    alerts = BudgetAlerts(FakeBudgetNotices(spent), NoticePreferences(FakePreferences()), mailer, FakeClock(), url_of)
    for _ in range(2):
        await alerts.notify()
    ((to, text),) = mailer.sent
    assert to == "a@x"
    assert f'"laptop {{x}}" has used {percent * 10:,} tokens of its budget of 1000 premium tokens per day' in text
    assert "It resets at 2027-01-16 00:00 (Asia/Kolkata)." in text
    assert "https://tok0n.example/dashboard/keys/key_1" in text
    assert ("are rejected" in text) == is_rejected


def test_a_balance_is_low_only_below_its_threshold() -> None:
    balance = Balance(posted=5, pending=5)
    assert [balance.is_below(threshold) for threshold in (None, 4, 5, 6)] == [False, False, False, True]


async def test_a_notice_that_is_turned_off_is_not_sent() -> None:
    budget = KeyBudget(id="b", tokens=1_000)
    spent = SpentBudget(
        account_id="acct_1", email="a@x", api_key_id="key_1", key_name="k", budget=budget, spent=900, percent=80
    )
    mailer, off = FakeMailer(), NoticePreferences(FakePreferences(NoticeKind.BUDGET))
    await BudgetAlerts(FakeBudgetNotices(spent), off, mailer, FakeClock(), str).notify()
    assert mailer.sent == []
    assert await off.is_enabled("acct_1", NoticeKind.PURCHASE)
    assert await NoticePreferences(FakePreferences(NoticeKind.SECURITY)).is_enabled("acct_1", NoticeKind.SECURITY)


async def test_an_account_has_a_few_alerts_of_classes_that_exist(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        low_balances = LowBalances(SqlBalanceAlerts(db.store), preferences(db), FakeMailer(), str, sources(db))
        account_id = (await db.accounts.create(email="a@x", tokens=0, now_us=1)).id
        for invalid in (
            [BalanceAlert(threshold_tokens=tokens) for tokens in range(1, 7)],
            [BalanceAlert(threshold_tokens=1, token_class="unknown")],
        ):
            with pytest.raises(InvalidRequest) as error:
                await low_balances.set_alerts(account_id, invalid)
            assert error.value.param == "threshold_tokens"
        await low_balances.set_alerts(account_id, [BalanceAlert(threshold_tokens=tokens) for tokens in (7, 3, 7)])
        assert [alert.threshold_tokens for alert in await low_balances.alerts(account_id)] == [3, 7]
        assert await low_balances.threshold_tokens(account_id) == 7
