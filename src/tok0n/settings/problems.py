"""Errors and warnings about the settings, reported as one list, so that an operator can fix all of them at once."""

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec


class SettingsProblem(msgspec.Struct, frozen=True, kw_only=True):
    """An error or warning about `where`: a setting as the file spells it, the file, or an environment variable.

    The gateway doesn't start with an "error". No message contains a secret.
    """

    where: str
    message: str
    severity: Literal["error", "warning"] = "error"


class SettingsInvalid(Exception):
    """The settings have errors. `problems` lists all of them."""

    def __init__(self, problems: list[SettingsProblem]) -> None:
        super().__init__("; ".join(f"{problem.where}: {problem.message}" for problem in problems))
        self.problems = problems


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return a sentence that suggests the closest of the `candidates`, or lists all of them."""
    names = {candidate.lower(): candidate for candidate in candidates}
    if close := difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5):
        return f"Did you mean {names[close[0]]}?"
    return f"Valid names: {', '.join(names.values())}." if names else "None is declared."
