"""A part of a stream is billed only if every chunk is known to report cumulative usage."""

from typing import Any

import msgspec
import pytest

from tok0n.domain.continuous_usage import CHUNKS_MIN, ContinuousUsage
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.usage import Usage


def usage(total: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": total - 10, "total_tokens": total}


def stream(totals: list[int | None]) -> bytes:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0}], "usage": None if total is None else usage(total)} for total in totals
    ]
    chunks.append({"choices": [], "usage": usage(99)})
    events = [b"data: " + msgspec.json.encode(chunk) for chunk in chunks]
    return b"\n\n".join([b": hi", *events, b"data: [DONE]", b""])


def find_fault(totals: list[int | None], *, final: int, piece_bytes: int = 1_000_000) -> str | None:
    continuous = ContinuousUsage(CHAT.read_usage, event_bytes_max=10_000)
    body = stream(totals)
    for start in range(0, len(body), piece_bytes):
        continuous.feed(body[start : start + piece_bytes])
    return continuous.find_fault(Usage(prompt_tokens=10, completion_tokens=final - 10, total_tokens=final))


@pytest.mark.parametrize("piece_bytes", [1, 7, 1_000_000])
def test_usage_that_grows_in_every_chunk_to_the_final_report_is_continuous(piece_bytes: int) -> None:
    assert find_fault([10, *range(10, 30)], final=29, piece_bytes=piece_bytes) is None
    assert find_fault([10] * CHUNKS_MIN, final=10, piece_bytes=piece_bytes) is None


@pytest.mark.parametrize(
    ("totals", "final", "words"),
    [
        ([], 30, "0 chunks"),
        ([*range(10, 9 + CHUNKS_MIN)], 8 + CHUNKS_MIN, "19 chunks"),
        ([*range(10, 30), None], 29, "1 of 21 chunks report no usage"),
        ([None] * 30, 29, "30 of 30 chunks report no usage"),
        ([11, *range(10, 30)], 29, "falls"),
        ([*range(10, 30)], 30, "the last chunk reports 29 tokens, and the stream reports 30"),
    ],
)
def test_anything_else_is_not(totals: list[int | None], final: int, words: str) -> None:
    fault = find_fault(totals, final=final)
    assert fault is not None
    assert words in fault
