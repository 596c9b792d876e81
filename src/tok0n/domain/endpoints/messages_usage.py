"""Read the token usage that Anthropic's API reports, in a whole message and in a stream.

Source: Anthropic API reference, "The message object", `usage`: all input is `input_tokens`, plus the tokens written to
and read from the cache. Missing or impossible usage is None, as in `domain.usage`.
"""

from collections.abc import Mapping
from typing import Any

from tok0n.domain.usage import TOKENS_MAX, Usage

INPUTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
OUTPUT = "output_tokens"

_GROUPS = ("cache_creation", "output_tokens_details")
_DETAILS_MAX = 32
_NAME_CHARACTERS_MAX = 64


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
            self._details |= _details(reported)

    def read_delta(self, reported: Any) -> Usage | None:
        """Read the usage of a `message_delta`. Returns the valid report with it, or None if there is none in it."""
        figures = read_figures(reported)
        if not figures or (self._delta and not any(figures.values())):
            return None
        self._delta |= figures
        self._details |= _details(reported)
        start_stands = not sum(self._delta.get(name, 0) for name in INPUTS)
        merged = self._start | self._delta
        if start_stands:
            merged |= {name: self._start[name] for name in INPUTS if name in self._start}
        return _usage(merged, self._details)


def read_message_usage(values: Mapping[str, Any]) -> Usage | None:
    """Return the usage in a decoded message, or None if it is missing or impossible. Absent figures are 0."""
    reported = values.get("usage")
    figures = read_figures(reported)
    return _usage(figures, _details(reported)) if figures else None


def read_figures(reported: Any) -> dict[str, int] | None:
    """Return the figures that are not null, or None unless all are integers from 0 to 2^53."""
    if type(reported) is not dict:
        return None
    figures = {name: reported[name] for name in (*INPUTS, OUTPUT) if reported.get(name) is not None}
    return figures if all(map(_is_count, figures.values())) else None


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


def _details(reported: Any) -> dict[str, int]:
    """Return the breakdowns. Keeps only names and counts, so no text of a message gets into the log."""
    details: dict[str, int] = {}
    for group in _GROUPS:
        members = reported.get(group)
        for name, value in members.items() if type(members) is dict else ():
            if len(details) < _DETAILS_MAX and _is_count(value) and _is_name(name):
                details[f"{group}.{name}"] = value
    return details


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= TOKENS_MAX


def _is_name(name: str) -> bool:
    return len(name) <= _NAME_CHARACTERS_MAX and name.endswith("_tokens") and name.isidentifier()
