"""The same client without `await`, for scripts, threads and notebooks.

    import headrace.client.blocking as hc

    with hc.connect("127.0.0.1:8001") as server:
        with server.stream() as stream:
            a = stream.submit("m", {"x": array}, outputs=["y"], keep=["z"])
            y = a.result(timeout=5)["y"]

Names, arguments and errors are those of `headrace.client`; `ticket.result()` replaces `await ticket`. Objects may be
used from several threads. A single background thread serves the whole process.
"""

from headrace.client.blocking.server import Server, connect
from headrace.client.blocking.stream import Stream
from headrace.client.blocking.ticket import Ticket, completed
from headrace.client.protocol.inputs import zeros

__all__ = ["Server", "Stream", "Ticket", "completed", "connect", "zeros"]
