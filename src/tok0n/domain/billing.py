"""The billing details of a buyer, which documents show."""

import msgspec

from tok0n.domain.errors import InvalidRequest

LINE_CHARACTERS_MAX = 100
ADDRESS_LINES_MAX = 5


class BillingDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The buyer on documents. Every field may be empty; `address` may have several lines."""

    name: str = ""
    company: str = ""
    address: str = ""
    country: str = ""
    tax_id: str = ""

    def checked(self) -> "BillingDetails":
        """Return the details without surrounding spaces and empty lines.

        Raises `InvalidRequest` for too many lines, a line that is too long, or characters that can't be printed.
        """
        fields = {}
        for field in self.__struct_fields__:
            lines = [line.strip() for line in getattr(self, field).splitlines()]
            lines = [line for line in lines if line]
            if len(lines) > (ADDRESS_LINES_MAX if field == "address" else 1):
                message = f"Enter at most {ADDRESS_LINES_MAX} lines." if field == "address" else "Enter one line."
                raise InvalidRequest(message, param=field)
            if any(len(line) > LINE_CHARACTERS_MAX for line in lines):
                raise InvalidRequest(f"Enter at most {LINE_CHARACTERS_MAX} characters in a line.", param=field)
            if not all(line.isprintable() for line in lines):
                raise InvalidRequest("Enter only printable characters.", param=field)
            fields[field] = "\n".join(lines)
        return BillingDetails(**fields)


NO_DETAILS = BillingDetails()
