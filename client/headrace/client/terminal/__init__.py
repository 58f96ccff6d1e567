"""What the `headrace` command reads from its arguments and prints: shared by its commands, load tests included."""
