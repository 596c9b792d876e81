"""Token classes: the settings declare which exist, and name them.

A class that the settings no longer declare is retired: nothing new is sold or granted in it, but its wallets remain.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

import msgspec

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import STANDARD, Balance

STANDARD_TITLE = "Standard tokens"

EMPTY = Balance(posted=0, pending=0)
"""The balance of an account in a token class that it never had."""


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """An account's balance in one token class, with the name of the class."""

    token_class: str
    title: str
    balance: Balance
    is_retired: bool


class RetiredClass(msgspec.Struct, frozen=True, kw_only=True):
    """A token class that the settings don't declare, with the open accounts that own `tokens` in it."""

    token_class: str
    accounts: int
    tokens: int

    @property
    def warning(self) -> str:
        """A warning for the operator."""
        owners = "account owns" if self.accounts == 1 else "accounts own"
        return (
            f"is not declared, but {self.accounts:,} {owners} {self.tokens:,} tokens of this class. They stay visible,"
            " and no model spends them. Declare the class, or move the tokens with tok0n accounts adjust."
        )


class TokenClasses:
    """The declared token classes by id, in the order of the settings. `standard` is always one of them."""

    def __init__(self, titles: Mapping[str, str] = MappingProxyType({})) -> None:
        self._titles = {STANDARD: STANDARD_TITLE, **titles}

    @property
    def ids(self) -> list[str]:
        """The ids of the declared classes. `standard` is first."""
        return list(self._titles)

    def title(self, token_class: str) -> str:
        """Return the name of a class for display. A retired class has only its id."""
        return self._titles.get(token_class, token_class)

    def titles(self, token_classes: Collection[str] = ()) -> dict[str, str]:
        """Return the names of the declared classes, and of those of `token_classes` that are retired, by id."""
        retired = sorted(set(token_classes) - self._titles.keys())
        return self._titles | {token_class: token_class for token_class in retired}

    def are_several(self, token_classes: Collection[str] = ()) -> bool:
        """Whether there is more than one class: declared ones, and those of an account's wallets."""
        return len(self.titles(token_classes)) > 1

    def wallets(self, balances: Mapping[str, Balance]) -> list[Wallet]:
        """Return the account's wallet in each declared class, then its wallets in retired classes."""
        return [
            Wallet(
                token_class=token_class,
                title=title,
                balance=balances.get(token_class, EMPTY),
                is_retired=token_class not in self._titles,
            )
            for token_class, title in self.titles(balances).items()
        ]

    def require(self, token_class: str, *, existing: Collection[str] = ()) -> str:
        """Return a class that is declared, or one of `existing`. Raises `InvalidRequest`."""
        if token_class in self._titles or token_class in existing:
            return token_class
        declared = ", ".join(self._titles)
        raise InvalidRequest(
            f"The settings declare no token class {token_class!r}. Declared: {declared}.", param="class"
        )
