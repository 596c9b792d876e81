"""What a password must be. Lengths are checked at once; strength and hashes only after an attempt was counted."""

from tok0n.domain.email import parse_email
from tok0n.domain.errors import InvalidRequest, OperatorError
from tok0n.domain.users import PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN
from tok0n.ports.users import Passwords

GUESSES_MIN = 1_000_000
"""Fewer guesses than this, and an online attacker gets there (zxcvbn's own score 2 begins here)."""


class FormError(InvalidRequest):
    """A form was filled in incorrectly. `field` is the name of the input."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, param=field)
        self.field = field


def too_many(seconds: float, *, field: str) -> FormError:
    """Return the error for too many attempts."""
    minutes = max(1, round(seconds / 60))
    return FormError(f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}.", field=field)


def check_length(password: str) -> None:
    """Raises `FormError` for a new password that is too short or too long. Costs nothing: count no attempt for it."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise FormError(f"Use at least {PASSWORD_CHARACTERS_MIN} characters.", field="password")
    check_too_long(password)


def check_too_long(password: str, *, field: str = "password") -> None:
    """Raises `FormError` for a password that nobody can have: the expensive work never sees it."""
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise FormError(f"Use at most {PASSWORD_CHARACTERS_MAX} characters.", field=field)


async def hash_new(passwords: Passwords, password: str, *, email: str) -> str:
    """The hash of a new password. Raises `FormError` for one that is easy to guess, and `Overloaded`.

    This work is expensive: count an attempt and find the link first.
    """
    known = [word for word in (email, *email.split("@"), "tok0n", "token") if word]
    if await passwords.guesses(password, known=known) < GUESSES_MIN:
        raise FormError("This password is too easy to guess. Choose another one.", field="password")
    return await passwords.hash(password)


def clean(email: str) -> str:
    """An email address in its stored form. Raises `FormError`."""
    try:
        return parse_email(email)
    except OperatorError:
        raise FormError("Enter an email address such as name@example.com.", field="email") from None
