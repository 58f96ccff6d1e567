"""Streams, without `await`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

from headrace.client.aio import stream as async_stream
from headrace.client.aio.ordered_map import AHEAD, check_ahead
from headrace.client.blocking.background_loop import wait
from headrace.client.blocking.ticket import Ticket
from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.layouts import Outputs


class Stream:
    """Many inferences on one connection; made by `Server.stream`."""

    def __init__(self, stream: async_stream.Stream) -> None:
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
        keep_inputs: Sequence[str] = (),
        version: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Ticket:
        """Queue one inference and return its ticket. Waits while the window is full.

        Arguments and errors are those of `headrace.client.Stream.submit`.
        """
        submitted = self._stream.submit(
            model,
            inputs,
            outputs=outputs,
            keep=keep,
            keep_inputs=keep_inputs,
            version=version,
            timeout=timeout,
            priority=priority,
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
        """Run one inference for each item of `inputs`, and yield the outputs in order.

        At most `ahead` items are read beyond the results that were taken. The first error is raised in its turn.
        Leaving early, because of an error or not, cancels the tickets in flight.
        """
        check_ahead(ahead)
        in_flight: deque[Ticket] = deque()
        try:
            for item in inputs:
                in_flight.append(
                    self.submit(model, item, outputs=outputs, version=version, timeout=timeout, priority=priority)
                )
                if len(in_flight) == ahead:
                    yield in_flight[0].result()
                    in_flight.popleft()
            while in_flight:
                yield in_flight[0].result()
                in_flight.popleft()
        finally:
            for ticket in in_flight:
                ticket.cancel()

    @property
    def hello(self) -> Hello:
        """The server's version and limits, as it gave them when the stream was opened."""
        return self._stream.hello

    @property
    def in_flight(self) -> int:
        """The number of tickets in flight, fetches included."""
        return self._stream.in_flight

    @property
    def draining(self) -> bool:
        """Whether the server is stopping. It then refuses new inferences (Unavailable); everything else goes on."""
        return self._stream.draining

    def __repr__(self) -> str:
        return repr(self._stream)
