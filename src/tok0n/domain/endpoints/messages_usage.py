"""Read the token usage that Anthropic's API reports, in a whole message and in a stream.

Source: Anthropic API reference, "The message object", `usage`: all input is `input_tokens`, plus the tokens written to
and read from the cache. Missing or impossible usage is None, as in `domain.usage`.
"""

from collections.abc import Mapping
from typing import Any

from tok0n.domain.usage import TOKENS_MAX, Usage, is_count, read_details

INPUTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
OUTPUT = "output_tokens"

_GROUPS = ("cache_creation", "output_tokens_details")


class StreamUsage:
    """Collects the usage in the events of one stream.

    Of `message_start` and the `message_delta`s, the last figure of each field counts. If the input of the deltas sums
    to 0, that of `message_start` stands. Usage with an impossible figure is ignored, and so are zeros after a report.
    """

    __slots__ = ("_delta", "_details", "_start")

    def __init__(self) -> None:
        self._start: dict[str, int] = {}
        self._delta: dict[str, int] = {}
        self._details: dict[str, int] = {}

    def read_start(self, reported: Any) -> None:
        """Read the usage of the message in `message_start`."""
        figures = read_figures(reported)
        if figures is not None:
            self._start |= figures
            self._details |= read_details(reported, _GROUPS)

    def read_delta(self, reported: Any) -> Usage | None:
        """Read the usage of a `message_delta`. Returns the valid report with it, or None if there is none in it."""
        figures = read_figures(reported)
        if not figures or (self._delta and not any(figures.values())):
            return None
        self._delta |= figures
        self._details |= read_details(reported, _GROUPS)
        start_stands = not sum(self._delta.get(name, 0) for name in INPUTS)
        merged = self._start | self._delta
        if start_stands:
            merged |= {name: self._start[name] for name in INPUTS if name in self._start}
        return _usage(merged, self._details)


def read_message_usage(values: Mapping[str, Any]) -> Usage | None:
    """Return the usage in a decoded message, or None if it is missing or impossible. Absent figures are 0."""
    reported: Any = values.get("usage")
    figures = read_figures(reported)
    return _usage(figures, read_details(reported, _GROUPS)) if figures else None


def read_figures(reported: Any) -> dict[str, int] | None:
    """Return the figures that are not null, or None unless all are integers from 0 to 2^53."""
    if type(reported) is not dict:
        return None
    figures = {name: reported[name] for name in (*INPUTS, OUTPUT) if reported.get(name) is not None}
    return figures if all(map(is_count, figures.values())) else None


def _usage(figures: Mapping[str, int], details: Mapping[str, int]) -> Usage | None:
    prompt = sum(figures.get(name, 0) for name in INPUTS)
    output = figures.get(OUTPUT, 0)
    if not 0 < prompt + output <= TOKENS_MAX:
        return None
    caches = {name: figures[name] for name in INPUTS[1:] if name in figures}
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=output,
        total_tokens=prompt + output,
        details=caches | dict(details),
    )
