"""`python -m uldscale` is the command `uldscale`."""

from uldscale.cli import main

main()
