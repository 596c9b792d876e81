"""Compare an account's use with the time before, and tell how long its tokens last. Integers only."""

DAYS_MAX = 999
"""A longer runway says nothing: the rate will change."""


def percent_change(now: int, before: int) -> int | None:
    """Return the change in percent, rounded to the nearest whole number. None if there was nothing before."""
    if before <= 0:
        return None
    return (200 * (now - before) + before) // (2 * before)


def runway_days(available: int, *, used: int, days: int) -> int | None:
    """Return how many whole days the available tokens last, if each day uses as much as `days` days have on average.

    None if nothing was used, or if they last longer than `DAYS_MAX`.
    """
    if used <= 0:
        return None
    lasts = max(0, available) * days // used
    return None if lasts > DAYS_MAX else lasts
