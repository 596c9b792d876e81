"""Token packs, the product that customers buy."""

import msgspec

from tok0n.domain.ledger import STANDARD


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A number of tokens of one class for a one-time price in whole cents."""

    id: str
    name: str
    tokens: int
    price_usd_cents: int
    token_class: str = STANDARD

    @property
    def cents_per_million(self) -> int:
        """The price of a million tokens in cents, rounded."""
        return round(self.price_usd_cents * 1_000_000 / self.tokens)
