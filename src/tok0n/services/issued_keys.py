"""Show a new secret again, for 10 minutes, to the browser that submitted the form which created it."""

from tok0n.domain.accounts import ApiKey
from tok0n.domain.errors import AlreadySubmitted
from tok0n.domain.forms import Submission
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms
from tok0n.services.api_keys import IssuedKey


async def find_issued(forms: Forms, clock: Clock, *, key: ApiKey, submission: Submission | None) -> IssuedKey:
    """Return the key with the secret that a `submission` created in the last 10 minutes, or without one."""
    secret = None
    if submission is not None:
        try:
            await forms.check(submission, now_us=clock.now_us())
        except AlreadySubmitted as first:
            if first.sealed is not None and first.result == key.id:
                secret = submission.unseal(first.sealed)
    return IssuedKey(key=key, secret=secret)
