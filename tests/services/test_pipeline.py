"""The main job: what is charged, what is undone, and what a cancelled call leaves behind (nothing)."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.endpoint_cases import CASES, CHAT_CASE, EndpointCase, by_name
from support.fakes import ANSWER, FakeUpstream
from support.gateways import EMAIL, InProcess, in_process
from support.ledgers import schema
from tok0n.domain.answers import Answer
from tok0n.domain.bound import string_bound
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint
from tok0n.domain.errors import (
    AccountingFailed,
    InsufficientTokens,
    InvalidApiKey,
    InvalidRequest,
    Overloaded,
    RateLimited,
    Tok0nError,
    UnknownModel,
    UpstreamFailed,
)
from tok0n.domain.json_text import JsonText
from tok0n.domain.ledger import Receipt
from tok0n.domain.metered_request import MeteredRequest
from tok0n.ports.upstream import UpstreamResponse
from tok0n.services.call import Call
from tok0n.services.catalogue import Catalogue
from tok0n.services.request_reader import RequestReader

pytestmark = pytest.mark.anyio

BODY = CHAT_CASE.body()
PROMPT_BOUND = len("user") + len("Hello") + 16 + 512
RESERVED = PROMPT_BOUND + 50


async def call(
    gateway: InProcess, body: bytes = BODY, *, authorization: bytes | None = b"", case: EndpointCase = CHAT_CASE
) -> tuple[Answer, Call]:
    begun = gateway.pipeline.new_call(case.name)
    presented = gateway.authorization if authorization == b"" else authorization
    caller = await gateway.pipeline.authenticate(begun, presented)
    answer = await gateway.pipeline.serve(case.endpoint, begun, caller, body)
    assert isinstance(answer, Answer)
    return answer, begun


async def test_a_call_is_reserved_charged_and_told(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream()) as gateway:
        completion, begun = await call(gateway)
        assert begun.receipt is not None
        assert (begun.receipt.reserved, begun.receipt.charged) == (RESERVED, 12)
        assert begun.receipt.balance.available == 1_000_000 - 12
        answer = msgspec.json.decode(completion.body)
        assert answer["model"] == "demo"
        assert completion.body == ANSWER.replace(b"upstream-demo", b"demo")
        sent = msgspec.json.decode(gateway.upstream.bodies[0])
        assert sent["model"] == "upstream-demo"
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize("case", CASES, ids=by_name)
async def test_an_answer_costs_what_it_reports_and_nothing_more(tmp_path: Path, case: EndpointCase) -> None:
    upstream = FakeUpstream(UpstreamResponse(status=200, body=case.answer_body))
    async with in_process(tmp_path, upstream) as gateway:
        answer, begun = await call(gateway, case.body(), case=case)
        assert answer.body == case.answer_body.replace(b"upstream-demo", b"demo")
        assert begun.reserved is not None
        assert begun.reserved >= case.charged
        (row,) = await gateway.db.rows(schema.request)
        assert (row["status"], row["charged"], row["code"], row["endpoint"]) == (*case.row, case.name)
        assert (row["reserved"], row["is_stream"], row["dispatched"]) == (begun.reserved, 0, 1)
        assert (await gateway.pending(), await gateway.posted()) == (0, 1_000_000 - case.charged)
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize("case", CASES, ids=by_name)
@pytest.mark.parametrize(
    ("answer", "dispatched"),
    [
        (UpstreamFailed("It failed.", detail="refused", reached=False), 0),
        (UpstreamFailed("It failed.", detail="reset", outcome_unknown=True), 1),
        (Overloaded(queue="upstream connections"), 0),
        (UpstreamResponse(status=500, body=b"{}"), 1),
        (UpstreamResponse(status=200, body=b"{}"), 1),
        (UpstreamResponse(status=400, body=b'{"error":{"message":"bad","type":"invalid_request_error"}}'), 1),
    ],
)
async def test_a_failure_is_not_billed_and_a_slot_unused_is_given_back(
    tmp_path: Path, answer: UpstreamResponse | Tok0nError, dispatched: int, case: EndpointCase
) -> None:
    async with in_process(tmp_path, FakeUpstream(answer), limits={"upstream": 1}) as gateway:
        with pytest.raises(Tok0nError):
            await call(gateway, case.body(), case=case)
        assert (await gateway.pending(), await gateway.posted()) == (0, 1_000_000)
        (row,) = await gateway.db.rows(schema.request)
        assert (row["status"], row["charged"], row["dispatched"]) == ("RELEASED", 0, dispatched)
        expected: type[Tok0nError] = RateLimited if dispatched else type(answer)  # type: ignore[assignment]
        with pytest.raises(expected):
            await call(gateway, case.body(), case=case)


async def test_200_racing_requests_on_tokens_for_one_serve_exactly_one(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with in_process(tmp_path, FakeUpstream(gate=gate), tokens=RESERVED) as gateway:
        racing = [asyncio.create_task(call(gateway)) for _ in range(200)]
        refusals = 0
        while refusals < 199:
            done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                racing.remove(task)
                assert isinstance(task.exception(), InsufficientTokens)
                refusals += 1
        gate.set()
        await racing[0]
        assert len(gateway.upstream.bodies) == 1
        assert await gateway.posted() == RESERVED - 12
        assert (await gateway.db.ledger.audit()).ok


async def test_a_402_says_the_largest_output_that_fits_and_it_does_fit(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream(), tokens=RESERVED - 20) as gateway:
        with pytest.raises(InsufficientTokens) as refused:
            await call(gateway)
        assert refused.value.largest_output_tokens == 30
        assert "30" in refused.value.message
        body = BODY.replace(b":50", b":30")
        await call(gateway, body)


async def test_nothing_is_admitted_reserved_or_sent_before_the_request_is_known_to_be_good(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream()) as gateway:
        for body, authorization, error in (
            (BODY, b"Bearer nonsense", InvalidApiKey),
            (BODY, None, InvalidApiKey),
            (b"{", b"", InvalidRequest),
            (BODY.replace(b'"demo"', b'"other"'), b"", UnknownModel),
        ):
            with pytest.raises(error):
                await call(gateway, body, authorization=authorization)
        assert gateway.upstream.bodies == []
        assert await gateway.db.rows(schema.request) == []
        assert gateway.limiter.keys_remembered == 0


async def test_a_reservation_that_expired_meanwhile_is_not_charged(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with in_process(tmp_path, FakeUpstream(gate=gate)) as gateway:
        task = asyncio.create_task(call(gateway))
        while not gateway.upstream.bodies:
            await asyncio.sleep(0)
        await gateway.db.ledger.recover(now_us=1)
        gate.set()
        with pytest.raises(AccountingFailed) as failed:
            await task
        assert failed.value.upstream_called
        assert (await gateway.pending(), await gateway.posted()) == (0, 1_000_000)
        assert (await gateway.db.ledger.audit()).ok


async def test_a_release_that_the_database_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = UpstreamFailed("It failed.", detail="reset")
    async with in_process(tmp_path, FakeUpstream(failure)) as gateway:
        ledger: Any = gateway.db.ledger
        release = ledger.release

        def down(_: object) -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(AccountingFailed(upstream_called=True, detail="the database is away"))
            return future

        monkeypatch.setattr(ledger, "release", down)
        with pytest.raises(UpstreamFailed):
            await call(gateway)
        assert await gateway.pending() == RESERVED
        assert await gateway.reservations.retry_releases() == 1
        monkeypatch.setattr(ledger, "release", release)
        assert await gateway.reservations.retry_releases() == 0
        assert await gateway.pending() == 0


async def test_a_settlement_is_tried_again_before_the_customer_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process(tmp_path, FakeUpstream()) as gateway:
        ledger: Any = gateway.db.ledger
        settle = ledger.settle
        failures = 2

        def shaky(settlement: Any) -> asyncio.Future[Receipt]:
            nonlocal failures
            if not failures:
                return settle(settlement)  # type: ignore[no-any-return]
            failures -= 1
            future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
            future.set_exception(AccountingFailed(upstream_called=False, detail="busy"))
            return future

        monkeypatch.setattr(ledger, "settle", shaky)
        _, begun = await call(gateway)
        assert begun.receipt is not None
        failures = 3
        with pytest.raises(AccountingFailed) as failed:
            await call(gateway)
        assert failed.value.upstream_called
        assert (await gateway.pending(), await gateway.posted()) == (0, 1_000_000 - 12)
        assert (await gateway.db.ledger.audit()).ok


LONG_MARKS = "e" + "\u0301\u0316" * 20_000
"""More than 16 KiB that are not ASCII: expensive to normalize."""


def long_body(text: str = LONG_MARKS) -> bytes:
    return msgspec.json.encode({"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 50})


def utf8_bound(text: str = LONG_MARKS) -> int:
    return len("user") + len(text.encode()) + 16 + 512 + 50


class RecordingReader(RequestReader):
    """Notes which texts it bounds exactly."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue)
        self.bounded: list[str] = []

    def with_exact_bound_now(self, request: MeteredRequest) -> MeteredRequest:
        self.bounded += request.inexact_texts
        return super().with_exact_bound_now(request)


class GatedReader(RequestReader):
    """Holds its threads at a gate."""

    def __init__(self, catalogue: Catalogue, **options: Any) -> None:
        super().__init__(catalogue, **options)
        self.gate = threading.Semaphore(0)
        self.started = threading.Event()
        self.running: list[bool] = []
        self.running_max = 0

    def wait_at_gate(self) -> None:
        self.running.append(True)
        self.running_max = max(self.running_max, len(self.running))
        self.started.set()
        self.gate.acquire(timeout=10)
        self.running.pop()


class GatedDecoding(GatedReader):
    """Decodes a large body only when the gate lets it pass. One more may wait."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue, decoding_waiting_max=1)

    def read_now(
        self, endpoint: Endpoint, body: JsonText, headers: Mapping[bytes, bytes] = NO_HEADERS
    ) -> MeteredRequest:
        self.wait_at_gate()
        return super().read_now(endpoint, body, headers)


class GatedBounding(GatedReader):
    """Bounds a request exactly only when the gate lets it pass. One more may wait."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue, bounding_waiting_max=1)

    def with_exact_bound_now(self, request: MeteredRequest) -> MeteredRequest:
        self.wait_at_gate()
        return super().with_exact_bound_now(request)


async def test_long_text_is_bounded_exactly_after_the_admission_if_the_account_can_pay(tmp_path: Path) -> None:
    tokens = utf8_bound() - 1
    async with in_process(
        tmp_path, FakeUpstream(), tokens=tokens, limits={"key": 2}, make_reader=RecordingReader
    ) as gateway:
        assert isinstance(gateway.reader, RecordingReader)
        with pytest.raises(InsufficientTokens) as refused:
            await call(gateway, long_body())
        assert (refused.value.required, refused.value.available) == (utf8_bound(), tokens)
        assert refused.value.largest_output_tokens == 49
        assert gateway.reader.bounded == []
        assert not gateway.limiter.running
        assert await gateway.db.rows(schema.request) == []
        await gateway.db.accounts.grant(email=EMAIL, tokens=2_000_000, reason="test", now_us=1)
        _, begun = await call(gateway, long_body())
        assert gateway.reader.bounded == [LONG_MARKS]
        assert begun.reserved == string_bound(LONG_MARKS) - len(LONG_MARKS.encode()) + utf8_bound()
        with pytest.raises(RateLimited):
            await call(gateway, long_body())
        assert gateway.reader.bounded == [LONG_MARKS], "a request that the limiter rejects is not normalized"


async def test_a_full_queue_of_exact_bounds_rejects_a_request_and_keeps_nothing(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream(), make_reader=GatedBounding) as gateway:
        assert isinstance(gateway.reader, GatedReader)
        calls = [asyncio.create_task(call(gateway, long_body())) for _ in range(3)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        (overloaded,) = done
        assert isinstance(overloaded.exception(), Overloaded)
        assert sum(gateway.limiter.running.values()) == 2
        gateway.reader.gate.release(2)
        await asyncio.gather(*waiting)
        assert not gateway.limiter.running
        assert (await gateway.db.ledger.audit()).ok


async def test_a_request_cancelled_while_it_waits_for_its_bound_keeps_nothing(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream(), make_reader=GatedBounding) as gateway:
        assert isinstance(gateway.reader, GatedReader)
        calls = [asyncio.create_task(call(gateway, long_body())) for _ in range(2)]
        await asyncio.to_thread(gateway.reader.started.wait, 60)
        for task in calls:
            task.cancel()
        await asyncio.wait(calls)
        assert all(task.cancelled() for task in calls)
        assert not gateway.limiter.running
        gateway.reader.gate.release(2)
        assert await gateway.db.rows(schema.request) == []
        await call(gateway, long_body())


async def test_large_bodies_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream(), make_reader=GatedDecoding) as gateway:
        assert isinstance(gateway.reader, GatedReader)
        calls = [asyncio.create_task(call(gateway, long_body("x" * 70_000))) for _ in range(3)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        gateway.reader.gate.release(3)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 1
        assert (gateway.reader.running, gateway.reader.running_max) == ([], 1)
