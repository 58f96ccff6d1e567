"""The program of a worker."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """The arguments are the descriptor of the socket to the parent, and the parent's process id."""
    descriptor, parent = map(int, sys.argv[1:3])
    _end_with(parent)
    # Here, so that a worker whose parent has gone does not even begin.
    from headrace.server.processors import limit_processors
    from headrace.server.workers.link import Link
    from headrace.server.workers.order import HELLO, Order

    link = Link(socket.socket(fileno=descriptor), lambda: os._exit(1))
    link.start()
    order: Order = link.ask(HELLO)
    limit_processors(order.processors.most)
    if order.processors.pinned:
        os.sched_setaffinity(0, order.processors.pinned[order.number - 1])
    # The runtime counts processors when it is imported.
    from headrace.server.workers.member import serve_as_member

    return serve_as_member(link, order)


def _end_with(parent: int) -> None:
    """End when the parent does, whatever this process is doing then."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
