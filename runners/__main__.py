"""`python -m qladder.runners` is `qladder`."""

from qladder.runners.cli import main

main()
