"""Show a new secret again, for 10 minutes, to the browser that submitted the form which created it."""

from tok0n.domain.errors import AlreadySubmitted
from tok0n.domain.forms import Submission
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms


async def find_secret(forms: Forms, clock: Clock, submission: Submission | None, *, result: str) -> str | None:
    """Return the secret that a `submission` with this `result` created in the last 10 minutes, or None."""
    if submission is None:
        return None
    try:
        await forms.check(submission, now_us=clock.now_us())
    except AlreadySubmitted as first:
        if first.sealed is not None and first.result == result:
            return submission.unseal(first.sealed)
    return None
