"""A provider endpoint."""

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from tok0n.domain.accounts import KeyLimits

_NO_LIMITS = KeyLimits()


class UpstreamAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an upstream answered, whole: nothing of it is believed yet.

    `retry_after_seconds` is when the upstream accepts requests again, if a 429 says it.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


class Upstream(Protocol):
    """One provider endpoint that we call."""

    @property
    def timeout_seconds(self) -> float:
        """The total deadline of one call."""

    def complete(self, body: bytes) -> Awaitable[UpstreamAnswer]:
        """POST one chat completion and read the whole answer, within the total deadline and the size limit.

        Never follows a redirect, never sends twice. Raises `UpstreamFailed`. When cancelled, it leaves nothing behind.
        """

    def scrub(self, text: str) -> str:
        """`text` without this upstream's secrets: its keys, organisation ids and hosts."""
