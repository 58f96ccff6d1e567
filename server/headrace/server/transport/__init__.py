"""gRPC: the only place in the server that imports it."""
