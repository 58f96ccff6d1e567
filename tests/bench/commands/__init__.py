"""Clients that are commands of their own: our load test, and perf_analyzer where it is installed."""
