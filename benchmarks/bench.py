"""What a scenario is told, and what it gives back."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How much is measured, and a folder for it, on the disk that the repository is on."""

    folder: Path
    rounds: int
    seconds: int
    """How long one round of load is."""
    quick: bool
    with_peers: bool
    keys: int
    """How many API keys `many_keys` uses."""

    def say(self, text: str) -> None:
        """Tell the user who waits."""
        print(f"  {text}", flush=True)


class Row(NamedTuple):
    """A line of the table. `reached` is None where the issue sets no floor."""

    figure: str
    value: str
    floor: str = ""
    reached: bool | None = None


@dataclass(slots=True)
class Result:
    """Of one scenario: lines for users, figures for programs, and what makes the whole run fail."""

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Errors and differences in the ledger: with them no figure counts."""

    def add(self, figure: str, value: str, floor: str = "", *, reached: bool | None = None) -> None:
        """Add a line to the table."""
        self.rows.append(Row(figure, value, floor, reached))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(values: Sequence[float]) -> dict[str, float]:
    """How they are spread."""
    return {
        "count": len(values),
        "p50": statistics.median(values),
        "p99": percentile(values, 0.99),
        "max": max(values),
    }
