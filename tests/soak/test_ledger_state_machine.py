"""Each ledger against the rule book, in more sequences of operations than `make test` has time for."""

import pytest

from support.ledger_machine import run_machine
from support.ledgers import ENGINES

EXAMPLES = 100


@pytest.mark.parametrize("engine", ENGINES)
def test_any_sequence_of_operations_leaves_exactly_what_the_model_says(engine: str) -> None:
    run_machine(engine, examples=EXAMPLES)
