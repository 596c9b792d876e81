"""The ids of accounts, users, keys, requests and orders. Time and random bytes are arguments."""

RANDOM_BYTES = 10
"""Bytes of chance in every id: two requests of one millisecond never share one."""


def account_id(random_bytes: bytes) -> str:
    """An account's id."""
    return f"acct_{random_bytes.hex()}"


def api_key_id(random_bytes: bytes) -> str:
    """The id of an API key, which is not a secret."""
    return f"key_{random_bytes.hex()}"


def request_id(now_us: int, random_bytes: bytes) -> str:
    """A request's id. Ids sort by the millisecond they were made in, so that new rows lie side by side."""
    return f"req_{now_us // 1000:012x}{random_bytes.hex()}"


def user_id(random_bytes: bytes) -> str:
    """The id of a user."""
    return f"user_{random_bytes.hex()}"


def order_id(now_us: int, random_bytes: bytes) -> str:
    """An order's id. Ids sort by the millisecond they were made in."""
    return f"ord_{now_us // 1000:012x}{random_bytes.hex()}"


def first_order_id(since_us: int) -> str:
    """No order created at or after `since_us` has a lower id than this."""
    return f"ord_{since_us // 1000:012x}"


def first_request_id(since_us: int) -> str:
    """No request made at or after `since_us` has a lower id than this."""
    return f"req_{since_us // 1000:012x}"
