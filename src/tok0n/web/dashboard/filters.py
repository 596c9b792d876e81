"""How figures and times are written on pages: for people, and the same everywhere."""

from collections.abc import Callable
from datetime import UTC, datetime

from markupsafe import Markup


def tokens(value: int | None) -> str:
    """A count with its thousands apart; nothing for what is not known."""
    return "" if value is None else f"{value:,}"


def signed(value: int) -> str:
    """A change, with its sign."""
    return f"{value:+,}".replace("-", "\N{MINUS SIGN}")


def short(value: int) -> str:
    """A count in a few characters: 950, 12.4k, 1.2M."""
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return str(value)


def moment(microseconds: int | None) -> Markup:
    """A time in UTC, readable for people and for programs."""
    if microseconds is None:
        return Markup("")
    at = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}")


FILTERS: dict[str, Callable[..., object]] = {"tokens": tokens, "signed": signed, "short": short, "moment": moment}
