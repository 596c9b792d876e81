"""What is wrong with the settings, as a list: an operator should not have to mend them one error at a time."""

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to mend. `where` is the setting as the file has it (or the file, or an environment variable).

    An "error" keeps the gateway from running as it was told to; a "warning" does not. No message holds a secret.
    """

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
    in_lower_case = [one.lower() for one in names]
    close = difflib.get_close_matches(name.lower(), in_lower_case, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {names[in_lower_case.index(close[0])]}?"
    return f"There are: {', '.join(names)}." if names else "None is declared."
