"""The billing details of an account, which its next orders take."""

from tok0n.domain.billing import BillingDetails
from tok0n.ports.documents import Billing


class AccountBilling:
    """Reads and changes billing details. Orders that are already placed keep theirs."""

    def __init__(self, billing: Billing) -> None:
        self._billing = billing

    async def details(self, account_id: str) -> BillingDetails:
        """Return the details, which may be empty."""
        return await self._billing.details(account_id)

    async def save(self, account_id: str, details: BillingDetails) -> BillingDetails:
        """Replace the details, and return them as they are stored. Raises `InvalidRequest`, as `checked` does."""
        checked = details.checked()
        if checked != await self._billing.details(account_id):
            await self._billing.save(account_id, checked)
        return checked
