"""Hash passwords with Argon2id and rate their strength, in low-priority threads.

The threads have their own bounded queue, so a flood of sign-ins delays only sign-ins.
"""

import asyncio
import base64
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from tok0n.adapters import strength
from tok0n.adapters.threads import NICENESS_MAX, lower_priority
from tok0n.domain.errors import Overloaded

T = TypeVar("T")

MEMORY_KIB = 19 * 1024
PASSES = 2
"""The minimum of OWASP's Password Storage Cheat Sheet: Argon2id with 19 MiB and two passes."""

THREADS = 2
WAITING_MAX = 64


class Argon2Passwords:
    """The `Passwords` port."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._pool = ThreadPoolExecutor(
            THREADS, thread_name_prefix="passwords", initializer=lower_priority, initargs=(NICENESS_MAX,)
        )
        self._waiting = 0
        self._dummy_hash = _make_dummy_hash(memory_kib=memory_kib, passes=passes)

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        matches = await self._run(lambda: self._matches(password, password_hash or self._dummy_hash))
        return matches and bool(password_hash)

    async def guesses(self, password: str, *, known_words: list[str]) -> int:
        return await self._run(lambda: strength.guesses(_normal(password), known_words=known_words))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _matches(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, _normal(password))
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Overloaded(queue="passwords")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1


def _make_dummy_hash(*, memory_kib: int, passes: int) -> str:
    """Return a hash of no password. It takes as long to check as a real one, and no time to make."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${digest}"


def _normal(password: str) -> str:
    """Normalize a password, because keyboards compose letters differently (NIST SP 800-63B, section 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
