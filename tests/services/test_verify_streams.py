"""A model streams only if a real stream showed that it is complete and that its usage can be charged."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.fakes import FakeClock, FakeStream, FakeUpstream
from support.gateways import MODEL
from support.ledgers import ENGINES, Opened, open_engine, schema
from support.limiters import make_limiter
from tok0n.domain.catalogue import Model, ModelState
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import RateLimited, Tok0nError, UpstreamFailed
from tok0n.services import verify_streams
from tok0n.services.catalogue import Catalogue
from tok0n.services.verify_models import VerifyModels

pytestmark = pytest.mark.anyio

WHOLE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
CONTINUOUS = msgspec.structs.replace(
    MODEL, routes=(msgspec.structs.replace(MODEL.routes[0], continuous_usage=True),), max_output_tokens=1_000
)


class Response(FakeStream):
    """A response that arrives in pieces, and may then fail."""

    def __init__(self, *pieces: bytes, status: int = 200, error: Tok0nError | None = None) -> None:
        super().__init__(status, b"".join(pieces))
        self._pieces = list(pieces)
        self._error = error

    async def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        return b""


class StreamingUpstream(FakeUpstream):
    """An upstream that answers whole requests, and streams `responses`, one after the other."""

    def __init__(self, *responses: Response | Tok0nError) -> None:
        super().__init__()
        self.responses = list(responses)
        self.streamed: list[dict[str, Any]] = []

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, *, timeout_seconds: float, headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[FakeStream]:
        assert (path, timeout_seconds) == ("/chat/completions", 5)
        self.streamed.append(msgspec.json.decode(body))
        response = self.responses.pop(0)
        if isinstance(response, Tok0nError):
            raise response
        yield response


def event(*choices: dict[str, Any], usage: dict[str, int] | None = None) -> bytes:
    chunk = {"object": "chat.completion.chunk", "model": "upstream-demo", "choices": choices, "usage": usage}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


TEXT = event({"index": 0, "delta": {"role": "assistant", "content": "OK"}, "finish_reason": None})
STOP = event({"index": 0, "delta": {}, "finish_reason": "stop"})
DONE = b"data: [DONE]\n\n"


def good(usage: dict[str, int] | None = None) -> Response:
    return Response(TEXT, STOP + event(usage=usage or WHOLE), DONE)


def cumulative(totals: Sequence[int], *, final: int) -> Response:
    def usage(total: int) -> dict[str, int]:
        return {"prompt_tokens": 9, "completion_tokens": total - 9, "total_tokens": total}

    word = {"index": 0, "delta": {"content": "1 "}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events = [event(word, usage=usage(total)) for total in totals[:-1]]
    return Response(*events, event(end, usage=usage(totals[-1])), event(usage=usage(final)), DONE)


def rejects(message: str, status: int = 400) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Response(msgspec.json.encode({"error": error}), status=status)


class Verifying:
    """A verifier with a fake upstream, and the catalogue of the same model."""

    def __init__(self, db: Opened, upstream: StreamingUpstream, *, model: Model = MODEL, per_minute: int = 55) -> None:
        self.clock = clock = FakeClock()
        self.db = db
        self.upstream = upstream
        self.limiter = make_limiter(clock, upstream=per_minute)
        self.catalogue = Catalogue({model.id: model}, db.models, stream_endpoints=[CHAT.name])
        self._model = model
        self._verify_models = VerifyModels(
            endpoints=[CHAT],
            stream_endpoints=["chat"],
            models=db.models,
            upstreams={"fake": upstream},
            limiter=self.limiter,
            clock=clock,
            timeout_seconds=5,
        )

    async def __call__(self) -> ModelState:
        state = await self._verify_models.verify(self._model)
        await self.catalogue.refresh()
        assert state == (await self.db.models.states())[self._model.id], "both engines store all of it"
        return state

    @property
    def streaming_endpoints(self) -> tuple[str, ...]:
        model = self.catalogue.find(self._model.id)
        assert model is not None, "it stays listed for whole answers"
        return model.streaming_endpoints


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine(request.param, tmp_path) as opened:
        yield opened


async def test_a_good_stream_lets_the_model_stream(db: Opened) -> None:
    verify = Verifying(db, StreamingUpstream(good()))
    state = await verify()
    assert (state.passed, state.streams["chat"].detail) == (True, "")
    assert verify.streaming_endpoints == ("chat",)
    (sent,) = verify.upstream.streamed
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert (sent["model"], sent["max_completion_tokens"]) == ("upstream-demo", 16)
    assert len(await db.rows(schema.operator_request)) == 2, "each request is a row of its own"
    assert verify.catalogue.due_models(now_us=FakeClock().now_us(), interval_us=10**9) == []


async def test_an_upstream_that_rejects_the_options_and_reports_usage_streams_without_them(db: Opened) -> None:
    mistral = rejects("Extra inputs are not permitted: stream_options", 422)
    verify = Verifying(db, StreamingUpstream(mistral, good()))
    await verify()
    assert verify.streaming_endpoints == ("chat",)
    assert "stream_options" not in verify.upstream.streamed[1]
    model = verify.catalogue.find(MODEL.id)
    assert model is not None
    assert not model.routes[0].stream_options
    assert len(await db.rows(schema.operator_request)) == 3


NO_USAGE = Response(TEXT, STOP, DONE)
CUT = UpstreamFailed("It broke off.", detail="truncated", outcome_unknown=True)
UNREACHED = UpstreamFailed("It failed.", detail="refused", reached=False)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (NO_USAGE, "usage"),
        (Response(TEXT), "ended before the answer was complete"),
        (Response(TEXT, error=CUT), "truncated"),
        (rejects("Streaming is not supported"), "Streaming is not supported"),
        (Response(b"{}", status=503), "status 503"),
        (Response(b'{"error":{"message":"no"}}'), "status 200"),
        (good({"prompt_tokens": 9, "completion_tokens": 17, "total_tokens": 26}), "17 tokens beyond the prompt"),
        (good({"prompt_tokens": 9_000, "completion_tokens": 3, "total_tokens": 9_003}), "9003 tokens used"),
        (UNREACHED, "refused"),
    ],
)
async def test_a_model_whose_stream_fails_stays_listed_and_does_not_stream(
    tmp_path: Path, response: Response | Tok0nError, words: str
) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        verify = Verifying(sqlite, StreamingUpstream(response))
        state = await verify()
        assert state.passed
        assert words in state.streams["chat"].detail
        assert verify.streaming_endpoints == ()
        assert verify.catalogue.reports()[0].streaming_endpoints == ()
        assert len(verify.upstream.streamed) == 1
        (stored,) = [row for row in await sqlite.rows(schema.verification) if row["is_stream"]]
        assert stored["code"] == ("invalid_request" if words == "Streaming is not supported" else "upstream_error")


async def test_a_stream_is_timed_to_its_first_content_and_to_its_end(db: Opened) -> None:
    class Slow(Response):
        async def read(self) -> bytes:
            verify.clock.advance(0.5)
            return await super().read()

    role = event({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})
    verify = Verifying(db, StreamingUpstream(Slow(role, TEXT, STOP + event(usage=WHOLE), DONE)))
    stream = (await verify()).streams["chat"]
    assert (stream.first_event_ms, stream.latency_ms) == (1_000, 2_000)
    (stored,) = [row for row in await db.rows(schema.verification) if row["is_stream"]]
    assert (stored["code"], stored["first_event_ms"], stored["latency_ms"]) == (None, 1_000, 2_000)


async def test_a_complete_stream_passes_whatever_follows(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        verify = Verifying(sqlite, StreamingUpstream(Response(TEXT, STOP, event(usage=WHOLE), error=CUT)))
        await verify()
        assert verify.streaming_endpoints == ("chat",)


async def test_a_complete_stream_that_stays_silent_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Response):
        async def read(self) -> bytes:
            piece = await super().read()
            if not piece:
                await asyncio.Event().wait()
            return piece

    monkeypatch.setattr(verify_streams, "COMPLETE_SECONDS", 0.01)
    async with open_engine("sqlite", tmp_path) as sqlite:
        verify = Verifying(sqlite, StreamingUpstream(Silent(TEXT, STOP, event(usage=WHOLE))))
        await verify()
        assert verify.streaming_endpoints == ("chat",)


async def test_a_stream_takes_a_global_slot_and_gives_it_back_if_it_was_not_sent(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        with pytest.raises(RateLimited):
            await Verifying(sqlite, StreamingUpstream(good()), per_minute=1)()
        verify = Verifying(sqlite, StreamingUpstream(UNREACHED, good()), per_minute=3)
        await verify()
        verify.upstream.responses = [good(), good()]
        await verify()
        with pytest.raises(RateLimited):
            await verify()


async def test_a_model_that_fails_as_a_whole_sends_no_stream(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        upstream = StreamingUpstream()
        upstream.answer = UNREACHED
        state = await Verifying(sqlite, upstream)()
        assert (state.passed, state.streams, upstream.streamed) == (False, {}, [])


async def test_continuous_usage_is_proven_by_a_longer_stream(db: Opened) -> None:
    verify = Verifying(db, StreamingUpstream(cumulative(range(9, 40), final=39)), model=CONTINUOUS)
    await verify()
    assert verify.streaming_endpoints == ("chat",)
    (sent,) = verify.upstream.streamed
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert sent["max_completion_tokens"] == 256
    model = verify.catalogue.find(MODEL.id)
    assert model is not None
    assert model.routes[0].continuous_usage_stats


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (good(), "2 chunks"),
        (cumulative([*range(9, 40), 30], final=30), "falls"),
        (cumulative(range(9, 40), final=41), "the last chunk reports 39 tokens"),
    ],
)
async def test_without_continuous_usage_an_upstream_that_is_set_to_it_does_not_stream(
    tmp_path: Path, response: Response, words: str
) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        verify = Verifying(sqlite, StreamingUpstream(response), model=CONTINUOUS)
        state = await verify()
        assert words in state.streams["chat"].detail
        assert verify.streaming_endpoints == ()


async def test_an_upstream_that_reports_continuous_usage_unasked_is_not_asked(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        rejection = rejects("Unknown parameter: stream_options.continuous_usage_stats")
        upstream = StreamingUpstream(rejection, cumulative(range(9, 40), final=39))
        verify = Verifying(sqlite, upstream, model=CONTINUOUS)
        await verify()
        assert verify.streaming_endpoints == ("chat",)
        assert upstream.streamed[1]["stream_options"] == {"include_usage": True}


async def test_switching_streaming_on_verifies_a_model_that_passed_before(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as sqlite:
        verify = Verifying(sqlite, StreamingUpstream(good()))
        verify._verify_models._stream_endpoints = []
        await verify()
        now_us = FakeClock().now_us()
        assert verify.catalogue.due_models(now_us=now_us, interval_us=10**9) == [MODEL]
        assert verify.streaming_endpoints == ()
