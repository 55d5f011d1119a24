"""``python -m triaxis`` is the command line."""

from triaxis.cli import main

main()
