"""The same client without `await`: for scripts, threads and notebooks.

    import headrace.client.blocking as hc

    with hc.connect("127.0.0.1:8001") as server:
        with server.stream() as stream:
            a = stream.submit("m", {"x": array}, outputs=["y"], keep=["z"])
            y = a.result(timeout=5)["y"]

Names, arguments and errors are those of `headrace.client`; `ticket.result()` stands for `await ticket`. Objects may be
used from several threads. One thread works in the background for the whole process, whatever is opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy.typing as npt

from headrace.client.aio import server as aio_server
from headrace.client.aio import stream as aio_stream
from headrace.client.aio import ticket as aio_ticket
from headrace.client.aio.completed import completed as _completed
from headrace.client.aio.ordered_map import AHEAD
from headrace.client.aio.server import CONNECT_TIMEOUT, MAX_MESSAGE_BYTES
from headrace.client.blocking.background_loop import call, wait
from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Inputs, Reference, zeros
from headrace.client.protocol.models import Model
from headrace.client.protocol.slices import SliceLike
from headrace.client.protocol.status import ServerStatus

__all__ = ["Server", "Stream", "Ticket", "completed", "connect", "zeros"]

Outputs = Mapping[str, npt.NDArray[Any]]


def connect(
    target: str,
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Server:
    """As `headrace.client.connect`; to be used as `with` or closed with `close()`."""
    return Server(aio_server.connect(target, max_message_bytes=max_message_bytes, connect_timeout=connect_timeout))


def completed(tickets: Iterable[Ticket]) -> Iterator[Ticket]:
    """Yield each ticket once, as soon as it has ended; its `result` does not wait then."""
    ours = {ticket._ticket: ticket for ticket in tickets}
    ends = _completed(ours)
    try:
        while (ended := wait(anext(ends, None))) is not None:
            yield ours[ended]
    finally:
        wait(ends.aclose())


class Server:
    """A connection to a server; made by `connect`."""

    def __init__(self, server: aio_server.Server) -> None:
        self._server = server

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; streams that are still open end."""
        wait(self._server.close())

    def models(self) -> list[Model]:
        """The models that are served. Raises Unavailable."""
        return wait(self._server.models())

    def model(self, name: str, version: str | None = None) -> Model:
        """One model. Raises NotFound, Unavailable."""
        return wait(self._server.model(name, version))

    def status(self) -> ServerStatus:
        """What the server holds at this moment. Raises Unavailable."""
        return wait(self._server.status())

    def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Outputs:
        """One inference in a call of its own. Raises any HeadraceError."""
        return wait(
            self._server.infer(model, inputs, outputs=outputs, version=version, timeout=timeout, priority=priority)
        )

    def stream(self, *, ordered: bool = False) -> Stream:
        """A stream, to be used as `with`."""
        return Stream(self._server.stream(ordered=ordered))

    def __repr__(self) -> str:
        return repr(self._server)


class Stream:
    """Many inferences on one connection; made by `Server.stream`."""

    def __init__(self, stream: aio_stream.Stream) -> None:
        self._stream = stream

    def __enter__(self) -> Stream:
        wait(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wait(self._stream.__aexit__(kind, error, trace))

    def submit(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] | None = None,
        keep: Sequence[str] = (),
        version: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Ticket:
        """Queue one inference and give its ticket; waits while the window is full. Raises as the asynchronous one."""
        submitted = self._stream.submit(
            model, inputs, outputs=outputs, keep=keep, version=version, timeout=timeout, priority=priority
        )
        return Ticket(wait(submitted))

    def map(
        self,
        model: str,
        inputs: Iterable[Inputs],
        *,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
    ) -> Iterator[Outputs]:
        """The outputs for each item of `inputs`, in order; at most `ahead` are pulled beyond the results taken.

        The first error is raised in its turn; leaving early, by it or otherwise, cancels what is in flight.
        """
        if ahead < 1:
            raise ValueError(f"ahead is {ahead}, at least 1 is needed")
        under_way: deque[Ticket] = deque()
        try:
            for item in inputs:
                under_way.append(
                    self.submit(model, item, outputs=outputs, version=version, timeout=timeout, priority=priority)
                )
                if len(under_way) == ahead:
                    yield under_way[0].result()
                    under_way.popleft()
            while under_way:
                yield under_way[0].result()
                under_way.popleft()
        finally:
            for ticket in under_way:
                ticket.cancel()

    @property
    def hello(self) -> Hello:
        """What the server said when the stream was opened."""
        return self._stream.hello

    @property
    def in_flight(self) -> int:
        """Tickets in flight, fetches included."""
        return self._stream.in_flight

    @property
    def draining(self) -> bool:
        """The server is stopping: it refuses new inferences."""
        return self._stream.draining

    def __repr__(self) -> str:
        return repr(self._stream)


class Ticket:
    """One inference on a stream, in flight or ended; made by `Stream.submit`."""

    def __init__(self, ticket: aio_ticket.Ticket) -> None:
        self._ticket = ticket

    def result(self, timeout: float | None = None) -> Outputs:
        """Wait for the end and give the outputs, or raise the error.

        Raises TimeoutError after `timeout` seconds; the ticket goes on then. Ctrl-C interrupts the waiting.
        """
        if self._ticket.ended:
            return self._ticket.outputs()
        return wait(aio_ticket.result(self._ticket), timeout)

    @property
    def ended(self) -> bool:
        """Whether `result` would not wait."""
        return self._ticket.ended

    def __getitem__(self, name: str) -> Reference:
        """A kept output, as an input of a later ticket. Raises KeyError."""
        return self._ticket[name]

    def take(self, name: str) -> Reference:
        """As `ticket[name]`, and the output lives no longer than the run that uses it. Raises KeyError."""
        return self._ticket.take(name)

    def fetch(self, name: str, slice: SliceLike | None = None) -> npt.NDArray[Any]:
        """A kept output, or a part of it. Raises as the asynchronous one."""
        return wait(self._ticket.fetch(name, slice))

    def release(self, *names: str) -> None:
        """Let go of kept outputs, or of all when none is named. Raises KeyError."""
        call(self._ticket.release, *names)

    def cancel(self) -> None:
        """End the ticket with Cancelled, unless it ends before the server hears of this."""
        call(self._ticket.cancel)

    @property
    def tag(self) -> int:
        return self._ticket.tag

    @property
    def waiting(self) -> float | None:
        """Seconds until its sources were there; None before the ticket is done."""
        return self._ticket.waiting

    @property
    def queued(self) -> float | None:
        """Seconds until a slot was free; None before the ticket is done."""
        return self._ticket.queued

    @property
    def running(self) -> float | None:
        """Seconds in the runtime; None before the ticket is done."""
        return self._ticket.running

    def __repr__(self) -> str:
        return repr(self._ticket)
