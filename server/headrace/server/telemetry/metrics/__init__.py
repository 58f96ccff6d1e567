"""Metrics for Prometheus: what there is, how it is read, and the port where it is told."""
