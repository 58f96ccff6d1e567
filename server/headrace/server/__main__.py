"""`python -m headrace.server`."""

from headrace.server.cli import main

main()
