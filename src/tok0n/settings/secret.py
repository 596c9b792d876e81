"""References to secrets. A secret is read on demand, and never appears in a representation or message."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tok0n.settings.problems import SettingsInvalid, SettingsProblem

SECRET_CHARACTERS_MAX = 8_192
REFERENCE_PREFIXES = ("env:", "file:")

_REFERENCE = re.compile(r"(?!\w+:(?:sk|rk|pk|whsec|tk0n)[-_])(?:env:[A-Za-z_][A-Za-z0-9_]*|file:\S(?:.*\S)?)")
"""The lookahead excludes a key that was pasted after `env:`, because messages contain the reference."""


class Secret:
    """A reference to a secret: `env:NAME` or `file:PATH`. A relative PATH starts at `folder`.

    `where` is the setting with the reference. The representation shows only the reference.
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
        """Read the secret. Raises `SettingsInvalid` if it is missing, empty or not one line of printable ASCII."""
        kind, _, name = self._reference.partition(":")
        value = (self._from_environment(name) if kind == "env" else self._from_file(name)).strip()
        if not value:
            raise self._invalid(f"{self._reference} is empty.")
        if len(value) > SECRET_CHARACTERS_MAX or not value.isascii() or not value.isprintable():
            raise self._invalid(
                f"{self._reference} must contain one line of printable ASCII, of at most"
                f" {SECRET_CHARACTERS_MAX} characters."
            )
        return value

    def _from_environment(self, name: str) -> str:
        if name in self._environ:
            return self._environ[name]
        raise self._invalid(f"the environment variable {name} is not set. Set it, or add it to .env.")

    def _from_file(self, name: str) -> str:
        try:
            path = self._folder / Path(name).expanduser()
            with path.open(encoding="utf-8") as file:
                return file.read(SECRET_CHARACTERS_MAX + 2)
        except FileNotFoundError:
            raise self._invalid(f"the file {path} does not exist.") from None
        except OSError as error:
            raise self._invalid(f"the file {path} can't be read: {error.strerror}.") from None
        except (RuntimeError, ValueError):
            raise self._invalid(f"{self._reference} can't be read as a text file.") from None

    def _invalid(self, message: str) -> SettingsInvalid:
        return SettingsInvalid([SettingsProblem(where=self._where, message=message)])


class Headers(Mapping[str, str]):
    """HTTP headers by name. Reading a value that is a reference resolves it each time, or raises `SettingsInvalid`.

    The representation shows only names.
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
    def secrets(self) -> list[Secret]:
        """The values that are references to secrets."""
        return [value for value in self._fields.values() if isinstance(value, Secret)]


def is_reference(text: str) -> bool:
    """Return whether `text` is a reference that messages may repeat."""
    return _REFERENCE.fullmatch(text) is not None
