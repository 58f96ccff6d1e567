"""The ways to serve that are compared, and their servers."""
