"""The inputs of the billing details, which the pages of buying and of the settings have."""

import msgspec

from tok0n.domain.billing import BillingDetails
from tok0n.domain.errors import InvalidRequest
from tok0n.services.billing import AccountBilling
from tok0n.services.passwords import FormError
from tok0n.web.rendering.page_request import PageRequest

PREFIX = "billing-"
"""The names of the inputs start with this, which keeps them apart from other inputs on their page."""


async def billing_fields(page: PageRequest, billing: AccountBilling) -> dict[str, str]:
    """Return the values of the inputs by field: those that the user entered, or else the stored ones."""
    stored = msgspec.to_builtins(await billing.details(page.account_id))
    return {name: page.form.get(f"{PREFIX}{name}", value) for name, value in stored.items()}


async def save_billing(page: PageRequest, billing: AccountBilling) -> BillingDetails:
    """Save the billing details in the form. A form without any keeps the stored ones. Raises `FormError`."""
    fields = {name: page.form.get(f"{PREFIX}{name}") for name in BillingDetails.__struct_fields__}
    if None in fields.values():
        return await billing.details(page.account_id)
    try:
        return await billing.save(page.account_id, msgspec.convert(fields, BillingDetails))
    except InvalidRequest as error:
        raise FormError(error.message, field=f"{PREFIX}{error.param}") from None
