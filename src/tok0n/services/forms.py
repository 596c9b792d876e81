"""Make form submissions idempotent for use cases that can't record the submission in their own transaction."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from tok0n.domain.errors import AlreadySubmitted, Overloaded
from tok0n.domain.forms import FORM_ID_BYTES, NONCE_BYTES, Submission
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms

WAIT_SECONDS = 0.1
WAITS_MAX = 100
"""A repeated submission waits up to `WAITS_MAX` times `WAIT_SECONDS` for the first one to finish."""

DONE = "done"


class SubmitOnce:
    """Runs the first submission of a form, and returns its result to repeated submissions."""

    def __init__(self, forms: Forms, clock: Clock) -> None:
        self._forms = forms
        self._clock = clock

    async def __call__(self, submission: Submission, action: Callable[[], Awaitable[str]]) -> str | None:
        """Return the text that `action` returned for the first submission, or None after 10 minutes.

        The text may be secret: the database holds it encrypted. If `action` raises, its error propagates and the form
        can be submitted again. Raises `Overloaded` if the first submission takes too long or its process died.
        """
        for _ in range(WAITS_MAX):
            try:
                await self._forms.claim(submission, result=None, now_us=self._clock.now_us())
            except AlreadySubmitted as first:
                if first.result is not None:
                    return None if first.sealed is None else submission.unseal(first.sealed)
                await asyncio.sleep(WAIT_SECONDS)
            else:
                return await self._run_first(submission, action)
        raise Overloaded(queue="form submissions", detail="the first submission of the same form has not finished")

    async def _run_first(self, submission: Submission, action: Callable[[], Awaitable[str]]) -> str:
        try:
            text = await action()
        except BaseException:
            await self._forms.withdraw(submission)
            raise
        sealed = submission.seal(text, nonce=secrets.token_bytes(NONCE_BYTES))
        await self._forms.finish(submission, result=DONE, sealed=sealed)
        return text


def new_form_id() -> str:
    """Return a random id for a new form."""
    return secrets.token_urlsafe(FORM_ID_BYTES)
