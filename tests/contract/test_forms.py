"""What the submissions of forms promise, whatever database is behind them: one is the first, the others repeat it."""

import asyncio
from collections import Counter

import pytest

from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened, outcome, schema
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.domain.errors import AlreadySubmitted, Overloaded
from tok0n.domain.forms import KEPT_US, SEALED_US, Submission
from tok0n.services import forms as services
from tok0n.services.forms import SubmitOnce, new_form_id

pytestmark = pytest.mark.anyio


@pytest.fixture
async def submission(db: Opened) -> Submission:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    return Submission(account_id=account.id, form="test", form_id=new_form_id())


async def test_of_many_submissions_at_once_one_is_the_first(db: Opened, submission: Submission) -> None:
    forms = SqlForms(db.store)
    tries = [outcome(forms.claim(submission, result=str(n), now_us=NOW_US)) for n in range(50)]
    results = await asyncio.gather(*tries)
    firsts = [str(number) for number, result in enumerate(results) if result is None]
    assert len(firsts) == 1
    assert {result.result for result in results if isinstance(result, AlreadySubmitted)} == set(firsts)


async def test_another_form_another_id_and_another_account_are_no_repetition(
    db: Opened, submission: Submission
) -> None:
    forms = SqlForms(db.store)
    other = await db.accounts.create(email="b@x", tokens=0, now_us=NOW_US)
    for one in (
        submission,
        Submission(account_id=submission.account_id, form="other", form_id=submission.form_id),
        Submission(account_id=submission.account_id, form="test", form_id=new_form_id()),
        Submission(account_id=other.id, form="test", form_id=submission.form_id),
    ):
        await forms.claim(one, result="x", now_us=NOW_US)


async def test_nothing_stored_contains_the_form_id_or_the_secret(db: Opened, submission: Submission) -> None:
    once = SubmitOnce(SqlForms(db.store), FakeClock(now_us=NOW_US))

    async def do() -> str:
        return "a secret"

    await once(submission, do)
    row = repr((await db.rows(schema.form_submission))[0])
    assert submission.form_id not in row
    assert "a secret" not in row


async def test_a_secret_is_shown_again_for_ten_minutes_and_a_submission_remembered_for_a_day(
    db: Opened, submission: Submission
) -> None:
    forms = SqlForms(db.store)
    clock = FakeClock(now_us=NOW_US)
    once = SubmitOnce(forms, clock)
    runs = Counter[str]()

    async def do() -> str:
        runs["run"] += 1
        return "a secret"

    assert await once(submission, do) == "a secret"
    clock.advance(SEALED_US / 1_000_000 - 1)
    await forms.delete_old(now_us=clock.now_us())
    assert await once(submission, do) == "a secret"
    clock.advance(1)
    assert await once(submission, do) is None, "before housekeeping has run, too"
    await forms.delete_old(now_us=clock.now_us())
    assert [row["sealed"] for row in await db.rows(schema.form_submission)] == [None]
    assert await once(submission, do) is None
    clock.advance((KEPT_US - SEALED_US) / 1_000_000)
    await forms.delete_old(now_us=clock.now_us())
    assert await db.rows(schema.form_submission) == []
    assert runs["run"] == 1


async def test_a_repetition_waits_for_the_first_and_gets_its_result(db: Opened, submission: Submission) -> None:
    once = SubmitOnce(SqlForms(db.store), FakeClock(now_us=NOW_US))
    runs, may_end = Counter[str](), asyncio.Event()

    async def do() -> str:
        runs["run"] += 1
        await may_end.wait()
        return f"result {runs['run']}"

    tries = [asyncio.create_task(once(submission, do)) for _ in range(20)]
    while not runs["run"]:
        await asyncio.sleep(0)
    may_end.set()
    assert set(await asyncio.gather(*tries)) == {"result 1"}
    assert runs["run"] == 1


@pytest.mark.parametrize("ends_by", [ValueError, asyncio.CancelledError])
async def test_a_submission_that_failed_may_be_repeated(
    db: Opened, submission: Submission, ends_by: type[BaseException]
) -> None:
    once = SubmitOnce(SqlForms(db.store), FakeClock(now_us=NOW_US))

    async def fail() -> str:
        raise ends_by

    async def do() -> str:
        return "done"

    with pytest.raises(ends_by):
        await once(submission, fail)
    assert await once(submission, do) == "done"


async def test_a_first_submission_that_died_with_its_process_is_not_waited_for_forever(
    db: Opened, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "WAITS_MAX", 2)
    await SqlForms(db.store).claim(submission, result=None, now_us=NOW_US)

    async def do() -> str:
        raise AssertionError("it may have done it")

    with pytest.raises(Overloaded):
        await SubmitOnce(SqlForms(db.store), FakeClock(now_us=NOW_US))(submission, do)
