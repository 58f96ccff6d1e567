"""The transport by gRPC's completion queue, which the event loop polls itself."""
