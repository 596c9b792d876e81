"""The `form_id` of a submitted form: what makes a second click, or a resubmission after *Back*, a repetition."""

from tok0n.domain.forms import Submission, is_form_id
from tok0n.services.passwords import FormError
from tok0n.web.pages.page_request import PageRequest


def submission_of(page: PageRequest, form: str, *, field: str) -> Submission:
    """What a form that creates something was submitted as. `form` names the form, `field` takes the error.

    Raises `FormError` without a form id of ours: the page is from an older version, or the request isn't a browser's.
    """
    form_id = page.form.get("form_id", "")
    if not is_form_id(form_id):
        raise expired_form(field)
    return Submission(account_id=page.account_id, form=form, form_id=form_id)


def expired_form(field: str) -> FormError:
    """What to tell someone whose form is too old; the page that says so holds a fresh one."""
    return FormError("This form has expired. Submit it again.", field=field)
