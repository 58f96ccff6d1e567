"""Calls by gRPC's completion queue, on an event loop that polls it itself."""
