"""The client's side of the protocol, pure: bytes in, bytes out. No gRPC, no asyncio, no threads, no clock."""
