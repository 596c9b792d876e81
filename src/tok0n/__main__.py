"""The command tok0n, and python -m tok0n."""

import gc

START_GARBAGE_THRESHOLD = 50_000
"""How many new objects trigger a garbage collection in commands, and in a server until it serves.

With the default of Python 3.11 (700), a start takes a sixth more CPU.
"""


def run() -> None:
    """Run the command line. Importing it creates many objects and hardly any garbage, so collect rarely."""
    gc.set_threshold(START_GARBAGE_THRESHOLD)
    from tok0n.cli import main  # noqa: PLC0415  after the threshold is set

    main()


if __name__ == "__main__":
    run()
