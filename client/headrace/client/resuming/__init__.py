"""Streams that outlive their connections, pure: what was submitted, what of it must be sent again, and in which order.

No gRPC, no asyncio, no threads, no clock.
"""
