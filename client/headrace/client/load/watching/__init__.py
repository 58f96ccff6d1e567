"""A run with someone watching: shown on the terminal, recorded to a file, stopped by Ctrl-C."""
