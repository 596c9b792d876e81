"""Estimate how many guesses a password withstands. Limits the work of zxcvbn, which can take seconds.

zxcvbn tries every substitution of symbols and digits with letters ("p4$$word"), and a password can have thousands.
"""

import threading

CHARACTERS_MAX = 32
"""Only this many characters are rated. With `SUBSTITUTIONS_MAX`, that takes under 20 ms of CPU."""

SUBSTITUTIONS_MAX = 8
"""In a password with more substitutions, only digits count as letters, and symbols don't."""

_PRIVATE_USE = 0xE000
_lock = threading.Lock()
"""zxcvbn keeps `user_inputs` in a global variable, so only one thread may call it."""


def guesses(password: str, *, known_words: list[str]) -> int:
    """Estimate the guesses of an attacker who tries likely passwords first and knows the `known_words`."""
    from zxcvbn import zxcvbn  # noqa: PLC0415  loading its word lists takes a tenth of a second
    from zxcvbn.matching import L33T_TABLE  # noqa: PLC0415

    text = password[:CHARACTERS_MAX]
    substitutions = 1
    for characters in L33T_TABLE.values():
        substitutions *= max(1, len(set(characters).intersection(text)))
    if substitutions > SUBSTITUTIONS_MAX:
        # Replace each symbol with a different character that zxcvbn doesn't substitute. The same character for all
        # symbols would look like a repetition.
        symbols = {sign for characters in L33T_TABLE.values() for sign in characters if not sign.isdigit()}
        text = text.translate({ord(sign): _PRIVATE_USE + ord(sign) for sign in symbols})
    with _lock:
        return int(zxcvbn(text, user_inputs=known_words)["guesses"])
