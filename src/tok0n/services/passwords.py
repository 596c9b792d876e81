"""What a password must be, and whose it is. Slow on purpose, and throttled."""

import asyncio

from tok0n.domain.email import parse_email
from tok0n.domain.errors import OperatorError
from tok0n.domain.people import PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN

GUESSES_MIN = 1_000_000
"""Fewer guesses than this, and an online attacker gets there (zxcvbn's own score 2 begins here)."""

_GUESSED_CHARACTERS_MAX = 72


class Refused(Exception):
    """What somebody filled in cannot be taken. `field` is the input that it is about."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def too_many(seconds: float, *, field: str) -> Refused:
    """What to tell somebody who has tried too often."""
    minutes = max(1, round(seconds / 60))
    return Refused(f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}.", field=field)


async def check_password(password: str, *, email: str) -> None:
    """Raises `Refused` for a password that is too short, too long, or among the first that anybody would guess."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise Refused(f"Use at least {PASSWORD_CHARACTERS_MIN} characters.", field="password")
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise Refused(f"Use at most {PASSWORD_CHARACTERS_MAX} characters.", field="password")
    if await asyncio.to_thread(_guesses, password[:_GUESSED_CHARACTERS_MAX], email) < GUESSES_MIN:
        raise Refused("That password is among the first that anybody would guess. Use another.", field="password")


def _guesses(password: str, email: str) -> int:
    """How many guesses somebody needs who tries the likely ones first."""
    from zxcvbn import zxcvbn  # noqa: PLC0415  its word lists take a tenth of a second

    known = [email, *email.split("@"), "tok0n", "token"]
    return int(zxcvbn(password, user_inputs=[word for word in known if word])["guesses"])


def clean(email: str) -> str:
    """An email address in its stored form. Raises `Refused`."""
    try:
        return parse_email(email)
    except OperatorError:
        raise Refused("Write your address as name@example.com.", field="email") from None
