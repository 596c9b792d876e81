"""Group the packs for sale by token class, for the landing page and the page to buy them."""

from collections.abc import Iterable

from tok0n.domain.packs import Pack
from tok0n.domain.token_classes import TokenClasses


def packs_by_class(packs: Iterable[Pack], token_classes: TokenClasses) -> dict[str, list[Pack]]:
    """Return the packs of each declared class by its title, in the order of the settings. Omits classes without."""
    groups: dict[str, list[Pack]] = {token_class: [] for token_class in token_classes.ids}
    for pack in packs:
        groups[pack.token_class].append(pack)
    return {token_classes.title(token_class): group for token_class, group in groups.items() if group}
