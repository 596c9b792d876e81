"""Secrets are named in the settings, never written there: the value is read when it is needed, and never shown."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tok0n.settings.faults import Fault, SettingsInvalid

SECRET_CHARACTERS_MAX = 8_192

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:\S(?:.*\S)?")
_PASTED = re.compile(r"(?:env|file):(?:sk|rk|pk|whsec|tk0n)[-_]")
"""A key that somebody pasted behind `env:`: it would be repeated in messages as if it were a name."""


class Secret:
    """A reference to a secret: `env:NAME` or `file:PATH`. It never shows what it refers to.

    `where` is the setting that holds it. A relative PATH begins at `folder`.
    """

    __slots__ = ("_environ", "_folder", "_reference", "_where")

    def __init__(self, reference: str, *, where: str, environ: Mapping[str, str], folder: Path) -> None:
        assert is_reference(reference)
        self._reference = reference
        self._where = where
        self._environ = environ
        self._folder = folder

    def __repr__(self) -> str:
        return f"Secret({self._reference!r})"

    def resolve(self) -> str:
        """The secret itself, one line of ASCII. Raises `SettingsInvalid` when it is missing, empty or not that."""
        kind, _, name = self._reference.partition(":")
        value = (self._from_environment(name) if kind == "env" else self._from_file(name)).strip()
        if not value:
            raise self._invalid(f"{self._reference} is empty.")
        if len(value) > SECRET_CHARACTERS_MAX or not value.isascii() or not value.isprintable():
            raise self._invalid(
                f"what {self._reference} holds is no secret: it must be one line of printable ASCII,"
                f" of {SECRET_CHARACTERS_MAX} characters at the most."
            )
        return value

    def _from_environment(self, name: str) -> str:
        value = self._environ.get(name)
        if value is None:
            raise self._invalid(f"the environment variable {name} is not set. Set it, in .env if you like.")
        return value

    def _from_file(self, name: str) -> str:
        try:
            path = self._folder / Path(name).expanduser()
            with path.open(encoding="utf-8") as file:
                return file.read(SECRET_CHARACTERS_MAX + 2)
        except FileNotFoundError:
            raise self._invalid(f"the file {path} does not exist.") from None
        except OSError as error:
            raise self._invalid(f"the file {path} cannot be read: {error.strerror}.") from None
        except (RuntimeError, ValueError):
            raise self._invalid(f"{self._reference} cannot be read as a text file.") from None

    def _invalid(self, message: str) -> SettingsInvalid:
        return SettingsInvalid([Fault(where=self._where, message=message)])


class Headers(Mapping[str, str]):
    """Header fields by name. A value that is a secret reference is resolved each time it is read, and never shown.

    Reading such a value raises `SettingsInvalid` when the secret is missing.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str | Secret]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> str:
        value = self._fields[name]
        return value.resolve() if isinstance(value, Secret) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({list(self._fields)!r})"

    @property
    def literals(self) -> list[str]:
        """The names of the fields whose value is no reference."""
        return [name for name, value in self._fields.items() if not isinstance(value, Secret)]

    @property
    def secrets(self) -> list[Secret]:
        """The references among the values."""
        return [value for value in self._fields.values() if isinstance(value, Secret)]


def is_reference(text: str) -> bool:
    """Whether `text` names a secret, as far as that can be told without repeating it."""
    return _REFERENCE.fullmatch(text) is not None and _PASTED.match(text) is None
