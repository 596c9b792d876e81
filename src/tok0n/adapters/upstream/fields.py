"""Parse the response headers `keep-alive`, `retry-after` and `retry-after-ms`.

An invalid value counts as missing, because these headers are hints.
"""

import math
import re
import time
from email.utils import parsedate_to_datetime

SECONDS_MAX = 86_400.0
"""Longer times are reduced to this."""

_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?i)(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,9})")
_NUMBER = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def keep_alive_seconds(value: bytes) -> float:
    """Return how long a connection may stay idle: `timeout=N` minus a margin, or infinity without a timeout.

    The margin, a second or half the timeout, covers the network latency of the response and of the next request.
    """
    match = _KEEP_ALIVE_TIMEOUT.search(value)
    if match is None:
        return math.inf
    seconds = float(match[1])
    return max(seconds - 1, seconds / 2)


def retry_after_seconds(retry_after: bytes, retry_after_ms: bytes) -> float | None:
    """Return the seconds of `retry-after-ms`, or else of `retry-after`, which is a number or an HTTP date.

    Sources: RFC 9110, section 10.2.3. The official OpenAI SDKs also read `retry-after-ms` first.
    """
    milliseconds = retry_after_ms.strip()
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, SECONDS_MAX)
    value = retry_after.strip()
    if _NUMBER.fullmatch(value):
        return min(float(value), SECONDS_MAX)
    try:
        timestamp = parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(timestamp - time.time(), 0.0), SECONDS_MAX)
