"""A stream as an application sees it: where tickets are submitted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType

from headrace.client.aio.ordered_map import AHEAD, Source, map_in_order
from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.stream_protocol import Hello
from headrace.client.protocol.unary_infer import Outputs
from headrace.client.transport.stream_transport import StreamTransport
from headrace.wire.errors import Cancelled


class Stream:
    """Many inferences on one connection; made by `Server.stream`, used once, as `async with`.

    Leaving the block takes nothing more and waits for what is in flight, without raising what
    became of it: that is for those who await the tickets. Leaving it by an exception cancels what
    is in flight. Results outlive the stream, kept outputs do not.
    """

    def __init__(self, target: str, open_exchange: Callable[[], Awaitable[StreamTransport]]) -> None:
        self._target = target
        self._open = open_exchange
        self._exchange: StreamTransport | None = None

    async def __aenter__(self) -> Stream:
        if self._exchange is not None:
            raise RuntimeError(f"{self!r} was used before; server.stream() makes a new one")
        self._exchange = await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._opened().finish()
        else:
            await self._opened().abort(Cancelled("the stream was left by an exception"))

    async def submit(
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
        """Queue one inference and give its ticket; `await` that for the outputs.

        Waits while the window is full (`hello.window` tickets are in flight, whether anybody looks
        at them or not) or 64 MiB wait to be sent. Never waits for the inference. Cancelling the
        task while it waits here submits nothing.

        `inputs`: every input of the model, by any of its names. An array of the input's shape and
        dtype (`ml_dtypes.bfloat16` for BF16; str or bytes for BYTES), which is copied before this
        returns and may be overwritten then; anything else goes through `np.asarray`. Or
        `zeros(shape, dtype)`. Or `ticket["z"]` or `ticket.take("z")`, a kept output of an earlier
        ticket of this stream, which need not have run.

        `outputs`: those to send back, in this order; None is all, `[]` none.
        `keep`: those that stay on the server, for `ticket.fetch` and as inputs of later tickets.
        `version`: None is the newest one at this moment.
        `timeout`: seconds from the arrival at the server until the ticket ends with
        DeadlineExceeded, waiting and queueing included; what has passed already (0 or less) still
        gets there, to end so.
        `priority`: 0 to 9, a larger number is started sooner.

        Raises only what the client can see itself: InvalidArgument (a dtype or element that has no
        datatype), ResourceExhausted (inputs over the server's largest message), Unavailable (the
        stream is closed or has ended), ValueError (a ticket of another stream). What the server
        says comes from awaiting the ticket.
        """
        exchange = self._exchange or self._opened()
        state = exchange.state
        if exchange.room.crowded or state.room <= 0:
            await exchange.room.enter()
        ticket = Ticket(exchange)
        try:
            state.submit(ticket, model, version, inputs, outputs, keep, timeout, priority)
        except BaseException:
            exchange.room.give()
            raise
        exchange.rouse()
        return ticket

    def map(
        self,
        model: str,
        inputs: Source,
        *,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
    ) -> AsyncGenerator[Outputs, None]:
        """One inference for each item of an iterable or async iterable, however long; the outputs in its order.

        Items are inputs as `submit` takes them. At most `ahead` of them are pulled beyond the results that were taken,
        so that an endless source is served at the pace of whoever takes the results. While an async source has nothing,
        results that are there do not wait with it. The first error is raised in its turn; leaving early, by it or
        otherwise, cancels what is in flight.
        """

        def submit(item: Inputs) -> Awaitable[Ticket]:
            return self.submit(model, item, outputs=outputs, version=version, timeout=timeout, priority=priority)

        return map_in_order(submit, inputs, ahead)

    @property
    def hello(self) -> Hello:
        """What the server said of itself and its bounds when the stream was opened."""
        hello = self._opened().state.hello
        assert hello is not None
        return hello

    @property
    def in_flight(self) -> int:
        """Tickets in flight, fetches included."""
        return len(self._opened().state.in_flight)

    @property
    def draining(self) -> bool:
        """The server is stopping: it refuses new inferences (Unavailable), the rest goes on."""
        return self._opened().state.draining

    def _opened(self) -> StreamTransport:
        if self._exchange is None:
            raise RuntimeError("the stream is not open: use it in `async with`")
        return self._exchange

    def __repr__(self) -> str:
        if self._exchange is None:
            return f"<Stream to {self._target}, not open>"
        state, waiting = self._exchange.state, len(self._exchange.room)
        return f"<Stream to {self._target}, {state.load()}, {waiting} waiting>"
