"""Limits of the contract that client and server must agree on. Pure."""

MAX_PRIORITY = 9
"""The largest priority of an Infer; the smallest is 0."""
MAX_CALLS = 1024
"""Numbers of calls that a stream may define."""
MAX_CALL_BYTES = 4 << 20
"""Total size of the call descriptions that the server remembers for a stream, in bytes, as serialized."""
MAX_PORTS = 1024
"""Inputs, outputs or kept outputs that one call may name."""
MAX_FRAME_NAMES = 4 * MAX_PORTS
"""Inputs, outputs and slices that all definitions, Fetches and Releases of a frame may have, together."""
MAX_SOURCE_SLICES = 4 * MAX_PORTS
"""Slices of sources that all Infers of a frame may have, together, where each source counts as one more."""
MAX_STRINGS = 16 << 10
"""Elements of BYTES that all inputs of a message may have, together: they are read one by one."""
MAX_STRING_BYTES = 16 << 20
"""Bytes that these elements may take, together: the runtime takes and returns strings as copies of copies."""
DEFAULT_MAX_MESSAGE_BYTES = 4 << 20
"""The largest message to a client that has not said what it takes: gRPC's default."""
MIN_MAX_MESSAGE_BYTES = 64 << 10
"""The least that a client may say it takes."""
MAX_LAYOUTS = 1024
"""Numbers of layouts that the server may define on a stream."""
