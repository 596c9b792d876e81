"""Read submitted forms: their `form_id`, which identifies repeated submissions, their numbers, and input errors."""

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.forms import Submission, is_form_id
from tok0n.services.passwords import FormError
from tok0n.web.rendering.page_request import PageRequest

_DIGITS_MAX = 20
"""More digits than any valid number has."""


def submission_of(page: PageRequest, form: str, *, field: str) -> Submission:
    """Return the submission of the form named `form`. `field` is the input for an error.

    Raises `FormError` without a valid form id: an older version rendered the page, or no browser sent the form.
    """
    form_id = page.form.get("form_id", "")
    if not is_form_id(form_id):
        raise expired_form(field)
    return Submission(account_id=page.account_id, form=form, form_id=form_id)


def expired_form(field: str) -> FormError:
    """Return the error for an expired form. The error page contains a new form."""
    return FormError("This form has expired. Submit it again.", field=field)


def form_error_of(error: InvalidRequest, *, field: str = "") -> FormError:
    """Return a use case's error as the error of an input: `field`, or else the one that the error names."""
    return FormError(error.message, field=field or error.param or "")


def whole_number(page: PageRequest, field: str) -> int | None:
    """Return the number in an input, or None if it is empty. Accepts thousands separators. Raises `FormError`."""
    return parse_whole_number(page.form.get(field, ""), field=field)


def parse_whole_number(text: str, *, field: str) -> int | None:
    """Return the number in the text of an input, as `whole_number` does."""
    text = text.strip().replace(",", "").replace("_", "").replace(" ", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise FormError("Enter a whole number from 1, or leave this empty.", field=field)
    return int(text[:_DIGITS_MAX])
