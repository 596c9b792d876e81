"""The future of a command that is carried out whatever becomes of its caller. mypyc cannot compile this module."""

import asyncio
from typing import Any, TypeVar

Result = TypeVar("Result")


class Submitted(asyncio.Future[Result]):
    """A future that cannot be cancelled: what was submitted is carried out.

    A task that is cancelled while it awaits one is woken with `CancelledError` once the future is done: then it knows
    what happened, and can undo it.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        """Refuse, so that the task waits on."""
        del msg
        return False
