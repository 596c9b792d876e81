"""What is wrong with the settings, as a list: an operator should not have to mend them one error at a time."""

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to mend. `where` is the setting as it is written in the file, or the environment variable."""

    where: str
    message: str
    severity: Literal["error", "warning"] = "error"


class SettingsInvalid(Exception):
    """The settings cannot be used; `faults` says why, all of it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.where}: {fault.message}" for fault in faults))
        self.faults = faults


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names what was probably meant, or everything that is known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "None is declared."
