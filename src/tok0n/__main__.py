"""The command tok0n, and python -m tok0n."""

import gc

GARBAGE_THRESHOLD = 50_000
"""The new objects that trigger a garbage collection. With Python's default of 700, a start took a sixth more CPU."""


def run() -> None:
    """Run the command line. Importing it creates many objects and hardly any garbage, so collect rarely."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    from tok0n.cli import main  # noqa: PLC0415  after the threshold is set

    main()


if __name__ == "__main__":
    run()
