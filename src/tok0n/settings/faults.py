"""Errors in the settings, reported as one list, so that an operator fixes all of them in one go."""

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to fix. `where` is a setting as the file spells it, the file itself, or an environment variable.

    An "error" keeps the gateway from starting; a "warning" does not. No message contains a secret.
    """

    where: str
    message: str
    severity: Literal["error", "warning"] = "error"


class SettingsInvalid(Exception):
    """The settings cannot be used. `faults` has every reason."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.where}: {fault.message}" for fault in faults))
        self.faults = faults


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the closest known name, or lists all of them."""
    names = {known_name.lower(): known_name for known_name in known}
    if close := difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5):
        return f"Did you mean {names[close[0]]}?"
    return f"There are: {', '.join(names.values())}." if names else "None is declared."
