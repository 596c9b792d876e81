"""Which token classes exist, and which of them an account sees."""

import pytest

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import STANDARD, Balance
from tok0n.domain.token_classes import EMPTY, TokenClasses

FIVE = Balance(posted=5, pending=2)
PREMIUM = {"premium": "Premium tokens"}


@pytest.mark.parametrize(
    ("titles", "balances", "visible", "are_several"),
    [
        ({}, {STANDARD: FIVE}, {STANDARD: FIVE}, False),
        (PREMIUM, {STANDARD: FIVE}, {STANDARD: FIVE, "premium": EMPTY}, True),
        (PREMIUM, {STANDARD: EMPTY, "premium": FIVE}, {STANDARD: EMPTY, "premium": FIVE}, True),
        ({}, {STANDARD: EMPTY, "old": FIVE}, {STANDARD: EMPTY, "old": FIVE}, True),
        (PREMIUM, {STANDARD: EMPTY, "old": EMPTY}, {STANDARD: EMPTY, "premium": EMPTY, "old": EMPTY}, True),
        ({STANDARD: "Small"}, {STANDARD: FIVE}, {STANDARD: FIVE}, False),
    ],
)
def test_an_account_sees_the_declared_classes_and_its_retired_ones(
    titles: dict[str, str], balances: dict[str, Balance], visible: dict[str, Balance], *, are_several: bool
) -> None:
    classes = TokenClasses(titles)
    wallets = classes.wallets(balances)
    assert {wallet.token_class: wallet.balance for wallet in wallets} == visible
    assert wallets[0].token_class == STANDARD
    assert {wallet.token_class for wallet in wallets if wallet.is_retired} == visible.keys() - set(classes.ids)
    assert classes.are_several(balances) is are_several


def test_a_new_sale_or_grant_needs_a_declared_class_and_a_correction_a_wallet() -> None:
    classes = TokenClasses(PREMIUM)
    for token_class in (STANDARD, "premium"):
        assert classes.require(token_class) == token_class
    with pytest.raises(InvalidRequest, match="Declared: standard, premium") as error:
        classes.require("old")
    assert error.value.param == "class"
    assert classes.require("old", existing={"old"}) == "old"
