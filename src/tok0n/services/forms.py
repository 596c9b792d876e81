"""Do once what a form asks for, however often it is submitted, where the use case has no transaction for both."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from tok0n.domain.errors import AlreadySubmitted, Overloaded
from tok0n.domain.forms import FORM_ID_BYTES, NONCE_BYTES, Submission
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms

WAIT_SECONDS = 0.1
WAITS_MAX = 100
"""A repetition waits this often, 10 seconds in all, for a first submission that is still in progress."""

DONE = "done"


class SubmitOnce:
    """Runs the first submission of a form and gives its text; a repetition gets the same text."""

    def __init__(self, forms: Forms, clock: Clock) -> None:
        self._forms = forms
        self._clock = clock

    async def __call__(self, submission: Submission, do: Callable[[], Awaitable[str]]) -> str | None:
        """Give the text of `do`, which may be secret: it is kept sealed for 10 minutes. None when it isn't any more.

        When `do` raises, nothing is remembered, and the form may be submitted again. Raises what `do` raises, and
        `Overloaded` when the first submission takes too long, or died with its process.
        """
        for _ in range(WAITS_MAX):
            try:
                await self._forms.claim(submission, result=None, now_us=self._clock.now_us())
            except AlreadySubmitted as first:
                if first.result is not None:
                    return None if first.sealed is None else submission.unseal(first.sealed)
                await asyncio.sleep(WAIT_SECONDS)
            else:
                return await self._first(submission, do)
        raise Overloaded(queue="submitted forms", detail="the first submission of the same form has not ended")

    async def _first(self, submission: Submission, do: Callable[[], Awaitable[str]]) -> str:
        try:
            text = await do()
        except BaseException:
            await self._forms.withdraw(submission)
            raise
        sealed = submission.seal(text, nonce=secrets.token_bytes(NONCE_BYTES))
        await self._forms.finish(submission, result=DONE, sealed=sealed)
        return text


def new_form_id() -> str:
    """A random id for a form that is about to be shown."""
    return secrets.token_urlsafe(FORM_ID_BYTES)
