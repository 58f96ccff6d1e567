"""Headrace's client: streaming inference with tickets.

import headrace.client as hc

async with hc.connect("127.0.0.1:8001") as server:
    async with server.stream() as stream:
        a = await stream.submit("m", {"x": array}, outputs=["y"], keep=["z"])
        b = await stream.submit("n", {"u": a["z"]}, outputs=["v"])  # before a has run
        y = (await a)["y"]

What happens to connections is logged under "headrace.client".
"""

import logging

import headrace.client.transport.processes  # noqa: F401 - before gRPC, which reads what it sets

# isort: split
from headrace.client.aio.completed import completed
from headrace.client.aio.server import Server, connect
from headrace.client.aio.stream import Stream
from headrace.client.aio.ticket import Ticket
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
from headrace.client.transport.event_loops import new_event_loop, run
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

# A library is silent unless the program says where its log goes.
logging.getLogger(__name__).addHandler(logging.NullHandler())

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
    "new_event_loop",
    "run",
    "zeros",
]
