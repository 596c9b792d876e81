"""Make the ids of accounts, users, API keys, budgets, requests and orders. Time and random bytes are arguments."""

AFTER_REQUEST_IDS = "req`"
"""Sorts after the id of every request, because a backtick follows the underscore in ASCII."""

RANDOM_BYTES = 10
"""Random bytes in every id, enough that ids of the same millisecond don't collide."""


def account_id(random_bytes: bytes) -> str:
    """Make an account id."""
    return f"acct_{random_bytes.hex()}"


def api_key_id(random_bytes: bytes) -> str:
    """Make the id of an API key. It is not secret."""
    return f"key_{random_bytes.hex()}"


def budget_id(random_bytes: bytes) -> str:
    """Make the id of a budget of an API key."""
    return f"bud_{random_bytes.hex()}"


def process_id(random_bytes: bytes) -> str:
    """Make the id of a serving process."""
    return f"proc_{random_bytes.hex()}"


def request_id(now_us: int, random_bytes: bytes) -> str:
    """Make a request id. Ids sort by their creation time in milliseconds, so new rows are adjacent in the index."""
    return f"req_{((now_us // 1000).to_bytes(6) + random_bytes).hex()}"


def user_id(random_bytes: bytes) -> str:
    """Make a user id."""
    return f"user_{random_bytes.hex()}"


def order_id(now_us: int, random_bytes: bytes) -> str:
    """Make an order id. Ids sort by their creation time in milliseconds."""
    return f"ord_{now_us // 1000:012x}{random_bytes.hex()}"


def first_order_id(since_us: int) -> str:
    """Return a lower bound of the ids of orders created at or after `since_us`."""
    return f"ord_{since_us // 1000:012x}"


def first_request_id(since_us: int) -> str:
    """Return a lower bound of the ids of requests created at or after `since_us`."""
    return f"req_{since_us // 1000:012x}"


def request_time_us(request_id: str) -> int | None:
    """Return the creation time of a request, in microseconds rounded down to a millisecond. None if it isn't an id."""
    try:
        return int(request_id.removeprefix("req_")[:12], 16) * 1000
    except ValueError:
        return None
