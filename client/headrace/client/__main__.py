"""`python -m headrace.client`."""

from headrace.client.cli import main

main()
