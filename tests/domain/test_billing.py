"""Billing details keep what a buyer entered, within limits that fit a page."""

import pytest

from tok0n.domain.billing import ADDRESS_LINES_MAX, LINE_CHARACTERS_MAX, BillingDetails
from tok0n.domain.errors import InvalidRequest


def test_lines_lose_surrounding_spaces_and_empty_lines() -> None:
    details = BillingDetails(name="  Ada ", address="\r\n 1 Row \r\n\r\nLondon ")
    assert details.checked() == BillingDetails(name="Ada", address="1 Row\nLondon")


@pytest.mark.parametrize(
    ("details", "param"),
    [
        (BillingDetails(name="x" * (LINE_CHARACTERS_MAX + 1)), "name"),
        (BillingDetails(company="two\nlines"), "company"),
        (BillingDetails(address="\n".join("x" * (ADDRESS_LINES_MAX + 1))), "address"),
        (BillingDetails(tax_id="GB\x07"), "tax_id"),
    ],
)
def test_a_field_that_no_document_can_show_is_rejected(details: BillingDetails, param: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        details.checked()
    assert rejected.value.param == param
