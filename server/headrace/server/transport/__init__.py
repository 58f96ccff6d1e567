"""gRPC: the only place in the server that imports it. Two rooms, `aio` and `completion_queue`, offer the same."""
