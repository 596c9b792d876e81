"""Each ledger against the rule book: any sequence of operations. tests/soak/ has many more of them."""

import pytest

from support.ledger_machine import run_machine

EXAMPLES = {"sqlite": 25, "postgres": 10}
"""PostgreSQL needs five times as long."""


@pytest.mark.parametrize("engine", EXAMPLES)
def test_any_sequence_of_operations_leaves_exactly_what_the_model_says(engine: str) -> None:
    run_machine(engine, examples=EXAMPLES[engine])
