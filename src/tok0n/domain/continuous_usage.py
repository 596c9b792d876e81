"""Check that an upstream reports cumulative usage in every chunk of a chat stream. Reads the stream as it arrives."""

from collections.abc import Callable, Mapping
from typing import Any

from tok0n.domain.answer_json import decode
from tok0n.domain.stream import EventParser
from tok0n.domain.usage import Usage

CHUNKS_MIN = 20
"""A stream with fewer chunks is too short for the check."""


class ContinuousUsage:
    """Collects the usage that each chunk with choices reports."""

    def __init__(self, read_usage: Callable[[Mapping[str, Any]], Usage | None], *, event_bytes_max: int) -> None:
        self._read_usage = read_usage
        self._parser = EventParser(event_bytes_max=event_bytes_max)
        self._totals: list[int | None] = []

    def feed(self, piece: bytes) -> None:
        """Read bytes of the stream."""
        for event in self._parser.feed(piece):
            values = decode(event.data)
            if type(values) is dict and values.get("choices"):
                usage = self._read_usage(values)
                self._totals.append(None if usage is None else usage.total_tokens)

    def find_fault(self, final: Usage) -> str | None:
        """Return why the reports don't allow to charge for a part of the stream, or None."""
        reports = [total for total in self._totals if total is not None]
        if len(self._totals) < CHUNKS_MIN:
            return f"the stream has {len(self._totals)} chunks, but the check of continuous usage needs {CHUNKS_MIN}"
        if len(reports) < len(self._totals):
            return f"{len(self._totals) - len(reports)} of {len(self._totals)} chunks report no usage"
        if reports != sorted(reports):
            return "the usage in the chunks falls"
        if reports[-1] != final.total_tokens:
            return f"the last chunk reports {reports[-1]} tokens, and the stream reports {final.total_tokens}"
        return None
