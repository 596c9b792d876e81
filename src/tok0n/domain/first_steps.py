"""The steps from a new account to its first billed request."""

from enum import StrEnum

import msgspec


class Step(StrEnum):
    """A step, in the order in which the overview shows them."""

    TOKENS = "tokens"
    API_KEY = "api_key"
    REQUEST = "request"


class FirstSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps an account has completed. A completed step stays so, for example when the tokens are spent."""

    done: frozenset[Step]

    @property
    def is_complete(self) -> bool:
        """Whether no step is left."""
        return len(self.done) == len(Step)

    @property
    def current(self) -> Step | None:
        """The first step that is left, or None."""
        return next((step for step in Step if step not in self.done), None)


def first_steps(*, posted: int, spent: int, keys: int) -> FirstSteps:
    """Return the completed steps of an account: its posted and its billed tokens of all classes, and its API keys."""
    is_done = {Step.TOKENS: posted > 0 or spent > 0, Step.API_KEY: keys > 0, Step.REQUEST: spent > 0}
    return FirstSteps(done=frozenset(step for step in Step if is_done[step]))
