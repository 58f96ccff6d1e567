"""What is known about a run: its settings, its samples, what each phase came to, and all of it as a file. Pure."""
