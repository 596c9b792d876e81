"""How a customer gets tokens on this server: buy a pack, redeem a code, or ask support."""

from enum import StrEnum

GRANTED = "Tokens on this service are granted, not sold."


class TokenSource(StrEnum):
    """The best way to get tokens that the server offers."""

    BUY = "buy"
    REDEEM = "redeem"
    SUPPORT = "support"


def advice(source: TokenSource, *, url: str, support: str, token_class: str | None = None) -> str:
    """Return the sentences that say how to get tokens, for errors and emails.

    `url` is the page that sells packs and redeems codes. `support` is whom to ask. With a `token_class`, the tokens are
    of that class.
    """
    of_class = "" if token_class is None else f" of the class {token_class}"
    match source:
        case TokenSource.BUY:
            return f"Buy tokens{of_class}: {url}"
        case TokenSource.REDEEM:
            return f"Redeem a code for tokens{of_class}: {url}"
        case TokenSource.SUPPORT:
            return f"{GRANTED} Contact {support} to get tokens{of_class}."
