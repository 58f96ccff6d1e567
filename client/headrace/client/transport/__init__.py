"""gRPC and asyncio: channels, the two tasks that carry a stream's messages, and the tasks that wait for them."""
