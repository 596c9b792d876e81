"""Estimates how many guesses a password withstands. It bounds the work of zxcvbn, whose worst case takes seconds.

zxcvbn tries every way to read symbols and digits as letters: a password with many of them has thousands of readings.
"""

import threading

JUDGED_CHARACTERS_MAX = 32
"""zxcvbn's work grows faster than the length. With the bound below, 32 characters take under 20 ms of CPU."""

READINGS_MAX = 8
"""A password with more readings is judged with its symbols as symbols, and only its digits as letters."""

_PRIVATE_USE = 0xE000
_one_at_a_time = threading.Lock()
"""zxcvbn keeps the words known about the user in a global variable."""


def guesses(password: str, *, known: list[str]) -> int:
    """How many guesses a user needs who tries likely passwords first, and knows the words `known`."""
    from zxcvbn import zxcvbn  # noqa: PLC0415  its word lists take a tenth of a second
    from zxcvbn.matching import L33T_TABLE  # noqa: PLC0415

    judged = password[:JUDGED_CHARACTERS_MAX]
    readings = 1
    for characters in L33T_TABLE.values():
        readings *= max(1, len(set(characters).intersection(judged)))
    if readings > READINGS_MAX:
        # Each symbol becomes another one that stands for no letter: replaced by one and the same, they would look
        # like a repetition.
        symbols = {one for characters in L33T_TABLE.values() for one in characters if not one.isdigit()}
        judged = judged.translate({ord(one): _PRIVATE_USE + ord(one) for one in symbols})
    with _one_at_a_time:
        return int(zxcvbn(judged, user_inputs=known)["guesses"])
