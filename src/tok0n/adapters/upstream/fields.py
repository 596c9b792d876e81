"""Read the header fields of an answer that say how long: `keep-alive`, `retry-after` and `retry-after-ms`.

A value that cannot be read counts as missing: these fields are hints.
"""

import math
import re
import time
from email.utils import parsedate_to_datetime

SECONDS_MAX = 86_400.0
"""A longer time is this time."""

_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?i)(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,9})")
_NUMBER = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def keep_alive_seconds(value: bytes) -> float:
    """How long a connection may stay idle: the peer's `timeout=N`, less a second or half of it; else no limit.

    The margin is for the time that the answer and the next request travel.
    """
    found = _KEEP_ALIVE_TIMEOUT.search(value)
    if found is None:
        return math.inf
    seconds = float(found[1])
    return max(seconds - 1, seconds / 2)


def retry_after_seconds(retry_after: bytes, retry_after_ms: bytes) -> float | None:
    """The seconds in an answer's `retry-after-ms`, or else in its `retry-after`: a number, or an HTTP date.

    Sources: RFC 9110, section 10.2.3; the official OpenAI SDKs read `retry-after-ms` first.
    """
    milliseconds = retry_after_ms.strip()
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, SECONDS_MAX)
    value = retry_after.strip()
    if _NUMBER.fullmatch(value):
        return min(float(value), SECONDS_MAX)
    try:
        at = parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(at - time.time(), 0.0), SECONDS_MAX)
