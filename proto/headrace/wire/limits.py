"""Limits of the contract that client and server must agree on. Pure."""

MAX_PRIORITY = 9
"""The largest priority of an Infer; the smallest is 0."""
MAX_CALLS = 1024
"""Numbers of calls that a stream may define."""
MAX_CALL_BYTES = 4 << 20
"""Total size of the call descriptions that the server remembers for a stream, in bytes, as serialized."""
MAX_PORTS = 1024
"""Inputs, outputs or kept outputs that one call may name."""
MAX_FRAME_PORTS = 16 << 10
"""Inputs and outputs that all definitions and Releases of a frame may name, together."""
MAX_STRINGS = 32 << 10
"""Elements of BYTES that all inputs of a message may have, together: they are read one by one."""
DEFAULT_MAX_MESSAGE_BYTES = 4 << 20
"""The largest message to a client that has not said what it takes: gRPC's default."""
MIN_MAX_MESSAGE_BYTES = 64 << 10
"""The least that a client may say it takes."""
MAX_LAYOUTS = 1024
"""Numbers of layouts that the server may define on a stream."""
