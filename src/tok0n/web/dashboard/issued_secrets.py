"""The cookie that lets a browser show the secrets that it created in the last 10 minutes again.

It has the ids of the latest forms, which decrypt their secrets in the database. Neither is of use without the other,
nor without a session of the account. No URL, history or log contains them.
"""

import msgspec
from starlette.responses import Response

from tok0n.domain.forms import SEALED_US, Submission, is_form_id
from tok0n.domain.ledger import US_A_SECOND
from tok0n.web.rendering.page_request import PageRequest

CREATE, ROTATE = "api_key", "rotate_key"
"""The forms that create a secret."""

SECRETS_MAX = 4
"""How many of the latest secrets a browser can show again."""

_BETWEEN_ENTRIES, _BETWEEN_PARTS = "|", "."


class IssuedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A key, and the form whose submission created its secret."""

    key_id: str
    form: str
    form_id: str

    def submission(self, page: PageRequest) -> Submission:
        """Return the submission of the form by the user's account."""
        return Submission(account_id=page.account_id, form=self.form, form_id=self.form_id)


def remember(page: PageRequest, response: Response, issued: IssuedSecret) -> None:
    """Let the browser show a secret again."""
    entries = [issued, *(entry for entry in _entries(page) if entry.key_id != issued.key_id)][:SECRETS_MAX]
    value = _BETWEEN_ENTRIES.join(_BETWEEN_PARTS.join(msgspec.structs.astuple(entry)) for entry in entries)
    page.set_cookie(response, page.context.secrets_cookie, value, seconds=SEALED_US // US_A_SECOND)


def find(page: PageRequest, key_id: str) -> IssuedSecret | None:
    """Return the newest secret of a key that the browser may show again."""
    return next((entry for entry in _entries(page) if entry.key_id == key_id), None)


def _entries(page: PageRequest) -> list[IssuedSecret]:
    cookie = page.request.cookies.get(page.context.secrets_cookie, "")
    parts = [entry.split(_BETWEEN_PARTS) for entry in cookie.split(_BETWEEN_ENTRIES)[:SECRETS_MAX]]
    return [
        IssuedSecret(key_id=part[0], form=part[1], form_id=part[2])
        for part in parts
        if len(part) == len(IssuedSecret.__struct_fields__) and part[1] in {CREATE, ROTATE} and is_form_id(part[2])
    ]
