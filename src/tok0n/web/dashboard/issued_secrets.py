"""The cookie that lets a browser show the secrets that it created in the last 10 minutes again.

It has the ids of the latest forms, which decrypt their secrets in the database. Neither is of use without the other,
nor without a session of the account. No URL, history or log contains them.
"""

from typing import Self

import msgspec
from starlette.responses import Response

from tok0n.domain.forms import SEALED_US, Submission, is_form_id
from tok0n.web.rendering.page_request import PageRequest

CREATE, ROTATE, TWO_FACTOR = "api_key", "rotate_key", "two_factor"
"""The forms that create a secret."""

_FORMS = frozenset({CREATE, ROTATE, TWO_FACTOR})

SECRETS_MAX = 4
"""How many of the latest secrets a browser can show again."""

_BETWEEN_ENTRIES, _BETWEEN_PARTS = "|", "."


class IssuedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A form submission that created a secret. It belongs to a key, or to a user: the recovery codes.

    `owner_id` is the id of the key or user.
    """

    owner_id: str
    form: str
    form_id: str

    @classmethod
    def from_submission(cls, submission: Submission, *, owner_id: str) -> Self:
        """Return the secret that a submission created."""
        return cls(owner_id=owner_id, form=submission.form, form_id=submission.form_id)

    def submission(self, page: PageRequest) -> Submission:
        """Return the submission of the form by the user's account."""
        return Submission(account_id=page.account_id, form=self.form, form_id=self.form_id)


def remember(page: PageRequest, response: Response, issued: IssuedSecret) -> None:
    """Let the browser show a secret again."""
    entries = [issued, *(entry for entry in _entries(page) if entry.owner_id != issued.owner_id)][:SECRETS_MAX]
    value = _BETWEEN_ENTRIES.join(_BETWEEN_PARTS.join(msgspec.structs.astuple(entry)) for entry in entries)
    page.set_cookie(response, page.context.secrets_cookie, value, lifetime_us=SEALED_US)


def find(page: PageRequest, owner_id: str) -> IssuedSecret | None:
    """Return the newest secret of a key or user that the browser may show again."""
    return next((entry for entry in _entries(page) if entry.owner_id == owner_id), None)


def _entries(page: PageRequest) -> list[IssuedSecret]:
    cookie = page.request.cookies.get(page.context.secrets_cookie, "")
    parts = [entry.split(_BETWEEN_PARTS) for entry in cookie.split(_BETWEEN_ENTRIES)[:SECRETS_MAX]]
    return [
        IssuedSecret(owner_id=part[0], form=part[1], form_id=part[2])
        for part in parts
        if len(part) == len(IssuedSecret.__struct_fields__) and part[1] in _FORMS and is_form_id(part[2])
    ]
