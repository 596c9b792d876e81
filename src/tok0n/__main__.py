"""python -m tok0n."""

from tok0n.cli import main

main()
