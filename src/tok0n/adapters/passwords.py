"""Argon2id and password strength in a few threads of their own, which give way to serving.

Their queue is bounded: a flood of sign-ins waits for itself, and never for the threads that render pages.
"""

import asyncio
import base64
import contextlib
import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from tok0n.adapters import strength
from tok0n.domain.errors import Overloaded

T = TypeVar("T")

MEMORY_KIB = 19 * 1024
PASSES = 2
"""OWASP, password storage: Argon2id with 19 MiB and two passes, at the least."""

THREADS = 2
WAITING_MAX = 64
NICENESS = 19
"""The lowest priority: threads that serve requests get the core first."""


class Argon2Passwords:
    """The `Passwords` port."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords", initializer=_give_way)
        self._waiting = 0
        self._hash_of_no_password = _hash_of_no_password(memory_kib=memory_kib, passes=passes)

    async def hash(self, password: str) -> str:
        """See `ports.Passwords.hash`."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """See `ports.Passwords.matches`."""
        matches = await self._run(lambda: self._matches(password, password_hash or self._hash_of_no_password))
        return matches and bool(password_hash)

    async def guesses(self, password: str, *, known: list[str]) -> int:
        """See `ports.Passwords.guesses`."""
        return await self._run(lambda: strength.guesses(_normal(password), known=known))

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


def _hash_of_no_password(*, memory_kib: int, passes: int) -> str:
    """Random bytes that take as long to check as a real hash, and no time to make."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${digest}"


def _normal(password: str) -> str:
    """The same password however a keyboard composes its letters (NIST SP 800-63B, section 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def _give_way() -> None:
    """On Linux a priority is of a thread; elsewhere it would be of the whole process, and is left alone."""
    if hasattr(os, "sched_getaffinity"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
