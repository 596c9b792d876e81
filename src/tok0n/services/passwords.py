"""Check new passwords. Length checks are cheap; count an attempt before the expensive strength check and hash."""

from tok0n.domain.email import parse_email
from tok0n.domain.errors import InvalidRequest, OperatorError
from tok0n.domain.users import PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN
from tok0n.ports.users import Passwords

GUESSES_MIN = 1_000_000
"""Reject a password that an attacker finds with fewer guesses. zxcvbn's score 2 begins here."""


class FormError(InvalidRequest):
    """A form was filled in incorrectly. `field` is the name of the input."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, param=field)
        self.field = field


def too_many_attempts(seconds: float, *, field: str) -> FormError:
    """Return the error for too many attempts."""
    minutes = max(1, round(seconds / 60))
    return FormError(f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}.", field=field)


def check_length(password: str) -> None:
    """Check the length of a new password. Raises `FormError`. This is cheap, so callers count no attempt first."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise FormError(f"Use at least {PASSWORD_CHARACTERS_MIN} characters.", field="password")
    check_too_long(password)


def check_too_long(password: str, *, field: str = "password") -> None:
    """Reject a password that is longer than any user's, before it is hashed. Raises `FormError`."""
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise FormError(f"Use at most {PASSWORD_CHARACTERS_MAX} characters.", field=field)


async def hash_new_password(passwords: Passwords, password: str, *, email: str) -> str:
    """Return the hash of a new password. Raises `FormError` if it is easy to guess, and `Overloaded`.

    This is expensive, so callers count an attempt and find the link first.
    """
    context_words = [word for word in (email, *email.split("@"), "tok0n", "token") if word]
    if await passwords.guesses(password, known_words=context_words) < GUESSES_MIN:
        raise FormError("This password is too easy to guess. Choose another one.", field="password")
    return await passwords.hash(password)


def clean_email(email: str) -> str:
    """Return an email address in its stored form. Raises `FormError`."""
    try:
        return parse_email(email)
    except OperatorError:
        raise FormError("Enter an email address such as name@example.com.", field="email") from None
