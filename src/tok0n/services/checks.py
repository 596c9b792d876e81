"""Validate input that several use cases share. Each check raises `InvalidRequest`, which names the parameter."""

from tok0n.domain.errors import InvalidRequest

REASON_CHARACTERS_MAX = 500


def check_count(count: int, *, most: int, param: str) -> int:
    """Return `count`. Raises `InvalidRequest` unless it is from 1 to `most`."""
    if not 1 <= count <= most:
        raise InvalidRequest(f"Enter a whole number from 1 to {most:,}.", param=param)
    return count


def check_optional_count(count: int | None, *, most: int, param: str) -> int | None:
    """Return `count`, which may be None for no limit. Raises `InvalidRequest` as `check_count` does."""
    return None if count is None else check_count(count, most=most, param=param)


def check_reason(reason: str) -> str:
    """Return the reason for a change, without surrounding spaces. Raises `InvalidRequest`."""
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX or not reason.isprintable():
        message = f"Enter a reason of 1 to {REASON_CHARACTERS_MAX} printable characters. It is stored with the change."
        raise InvalidRequest(message, param="reason")
    return reason
