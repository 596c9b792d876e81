"""What is sold. Prices are whole cents."""

import msgspec


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """So many tokens for so much, bought once."""

    id: str
    name: str
    tokens: int
    price_usd_cents: int

    @property
    def cents_per_million(self) -> int:
        """The price of a million tokens, rounded."""
        return round(self.price_usd_cents * 1_000_000 / self.tokens)
