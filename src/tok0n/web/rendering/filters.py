"""Format figures and times for all pages."""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from tok0n.domain.user_agents import browser_name

MICRO_DOLLARS_PER_DOLLAR = 1_000_000
MICRO_DOLLARS_PER_CENT = 10_000

UNITS = "kMGTPE"
"""The units of `short`, each a thousand of the one before."""


def tokens(value: int | None) -> str:
    """Format a count with thousands separators. None becomes a dash."""
    return "\N{EN DASH}" if value is None else f"{value:,}"


def milliseconds(value: int | None) -> str:
    """Format a latency, for example 420 ms or 1.2 s. None becomes a dash."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value}\N{NO-BREAK SPACE}ms" if value < 1_000 else f"{value / 1_000:.1f}\N{NO-BREAK SPACE}s"


def token_count(value: int) -> str:
    """Format a count of tokens with its unit, which a line break can't separate from the number."""
    return f"{value:,}\N{NO-BREAK SPACE}token{'' if value == 1 else 's'}"


def signed(value: int) -> str:
    """Format a change with its sign."""
    return f"{value:+,}".replace("-", "\N{MINUS SIGN}")


def short(value: int) -> str:
    """Format a count in a few characters: 950, 12.4k, 1.2M. Rounds to three digits, half up."""
    sign, rest = "\N{MINUS SIGN}" if value < 0 else "", abs(value)
    if rest < 1000:
        return f"{sign}{rest}"
    digits = len(str(rest)) - 3
    rounded = (rest + 10**digits // 2) // 10**digits
    if rounded == 1000:
        rounded, digits = 100, digits + 1
    unit = min((digits + 2) // 3, len(UNITS))
    whole = f"{rounded * 10**digits // 10 ** (3 * unit):,}"
    decimals = f"{rounded * 10**digits % 10 ** (3 * unit):0{3 * unit}d}".rstrip("0")
    return f"{sign}{whole}{'.' if decimals else ''}{decimals}{UNITS[unit - 1]}"


def dollars(cents: int) -> str:
    """Format an amount of cents as US dollars: $12.00."""
    return micro_dollars(cents * MICRO_DOLLARS_PER_CENT)


def micro_dollars(micro_usd: int) -> str:
    """Format an amount of millionths of a US dollar, which is 1/10,000 cent: $12.00, $0.25, $0.0012.

    Amounts below a dollar have up to four decimals. A smaller amount than $0.0001 is shown as <$0.0001, because it
    isn't free. Other amounts are rounded half up.
    """
    sign = "\N{MINUS SIGN}" if micro_usd < 0 else ""
    amount = abs(micro_usd)
    if 0 < amount < MICRO_DOLLARS_PER_CENT // 100:
        return f"{sign}<$0.0001"
    if amount >= MICRO_DOLLARS_PER_DOLLAR:
        cents = (amount + MICRO_DOLLARS_PER_CENT // 2) // MICRO_DOLLARS_PER_CENT
        return f"{sign}${cents // 100:,}.{cents % 100:02d}"
    hundredths_of_cents = (amount + 50) // 100
    whole, decimals = divmod(hundredths_of_cents, 10_000)
    digits = f"{decimals:04d}"
    return f"{sign}${whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def zone_of(name: str) -> tzinfo:
    """Return the time zone with this name, or UTC if this machine's time zone database doesn't have it."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return UTC


@pass_context
def moment(context: Context, microseconds: int | None) -> Markup:
    """Format a time in the user's time zone, as a `<time>` element."""
    if microseconds is None:
        return Markup("\N{EN DASH}")
    at = datetime.fromtimestamp(microseconds / 1_000_000, context["zone"])
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}")


def utc_date(microseconds: int) -> str:
    """Format the UTC date of a time, for documents that must not depend on the reader."""
    return f"{datetime.fromtimestamp(microseconds / 1_000_000, UTC):%Y-%m-%d}"


FILTERS: dict[str, Callable[..., object]] = {
    "milliseconds": milliseconds,
    "tokens": tokens,
    "token_count": token_count,
    "signed": signed,
    "short": short,
    "moment": moment,
    "browser": browser_name,
    "utc_date": utc_date,
    "dollars": dollars,
    "micro_dollars": micro_dollars,
}
