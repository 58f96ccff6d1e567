"""The same client without `await`, for scripts, threads and notebooks.

    import headrace.client.blocking as hc

    with hc.connect("127.0.0.1:8001") as server:
        with server.stream() as stream:
            a = stream.submit("m", {"x": array}, outputs=["y"], keep=["z"])
            y = a.result(timeout=5)["y"]

It has every name of `headrace.client`, with the same arguments and errors; `ticket.result()` replaces `await ticket`.
Objects may be used from several threads. A single background thread serves the whole process.
"""

from headrace.client.blocking.server import Server, connect
from headrace.client.blocking.stream import Stream
from headrace.client.blocking.ticket import Ticket, completed
from headrace.client.protocol.connection_settings import Tls
from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Reference, Zeros, zeros
from headrace.client.protocol.models import Model, ModelState, Port
from headrace.client.protocol.status import (
    Account,
    Histogram,
    ModelStatus,
    ServerStatus,
    StreamStatus,
    Variant,
    WorkerStatus,
)
from headrace.client.transport.resuming_transport import Resumed
from headrace.wire.errors import (
    Cancelled,
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

__all__ = [
    "Account",
    "Cancelled",
    "Code",
    "DeadlineExceeded",
    "FailedPrecondition",
    "HeadraceError",
    "Hello",
    "Histogram",
    "Internal",
    "InvalidArgument",
    "Model",
    "ModelState",
    "ModelStatus",
    "NotFound",
    "PermissionDenied",
    "Port",
    "Reference",
    "ResourceExhausted",
    "Resumed",
    "Server",
    "ServerStatus",
    "Stream",
    "StreamStatus",
    "Ticket",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Variant",
    "WorkerStatus",
    "Zeros",
    "completed",
    "connect",
    "zeros",
]
