"""A stream as an application sees it: submit tickets to it."""

from __future__ import annotations

from asyncio import _get_running_loop  # public in asyncio.events: no error outside of a loop, nor in a forked child
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from operator import index
from types import TracebackType
from typing import Any, Literal, overload

from headrace.client.aio.descriptions import MAX_REFRESHES, Descriptions, changes_too_often
from headrace.client.aio.ordered_map import AHEAD, Errors, Item, Source, check_map, map_in_order
from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.call_description import Names, as_names, names_of, normalized
from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.known_models import DescriptionNeeded, key_of
from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.timeouts import seconds
from headrace.client.transport.stream_transport import StreamTransport
from headrace.wire.errors import Cancelled


class Stream:
    """Many inferences on one connection; made by `Server.stream`, and used once, in `async with`.

    Leaving the block accepts no more tickets and waits for those in flight. It does not raise their errors, which are
    for the code that awaits the tickets. Leaving the block by an exception cancels the tickets in flight. Results
    outlive the stream; kept outputs do not.
    """

    def __init__(
        self, target: str, open_transport: Callable[[], Awaitable[StreamTransport]], descriptions: Descriptions
    ) -> None:
        self._target = target
        self._descriptions = descriptions
        self._open = open_transport
        self._transport: StreamTransport | None = None
        self._abandoned = False

    async def __aenter__(self) -> Stream:
        if self._transport is not None:
            raise RuntimeError(f"{self!r} was used before; server.stream() returns a new one")
        self._transport = await self._open()
        if self._abandoned:
            self._abandon()
        return self

    def _abandon(self) -> None:
        """End the stream, now or as soon as it is open, if nobody can leave it any more. Waits for nothing."""
        self._abandoned = True
        if self._transport is not None:
            self._transport.end(Cancelled("the stream was abandoned while it was opened"))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        transport = self._opened()
        if transport.forked:
            return  # in a forked child, where the stream is the parent's
        transport.check_loop()
        if error is None:
            await transport.finish()
        else:
            await transport.abort(Cancelled("the stream was left by an exception"))

    async def submit(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Iterable[str] | None = None,
        keep: Iterable[str] = (),
        keep_inputs: Iterable[str] = (),
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Ticket:
        """Queue one inference and return its ticket; `await` the ticket for the outputs.

        Waits while the window is full, that is, while `hello.window` tickets are in flight (awaited or not), their
        inputs take `hello.queue_bytes`, or 64 MiB wait to be sent. Never waits for the inference. Cancelling the task
        while it waits here submits nothing.

        `inputs`: a value for every input of the model, by any of its names. The value is an array of the input's shape
        and dtype (`ml_dtypes.bfloat16` for BF16; str or bytes for BYTES), or anything that `np.asarray` converts to
        one, or a tensor of PyTorch or with DLPack. It is copied before this returns. Or it is `zeros(shape, dtype)`. Or
        it is `ticket["z"]` or `ticket.take("z")`, a kept output of an earlier ticket of this stream, which need not
        have run; or a part of it, as in `ticket["z"][2:3]`. Python numbers, lists of them, and float64 arrays are
        converted to the input's datatype if no value changes by it, except that a Python float is rounded. The first
        time, this waits for the model's description.

        `outputs`: the outputs to return, in this order; None returns all, `[]` none.
        `keep`: the outputs that stay on the server, for `ticket.fetch` and as inputs of later tickets.
        `keep_inputs`: the inputs that stay there. Once the ticket is done, each is a kept output like any other, so
        that it is sent once for several models. Not a name that is in `keep`.
        `version`: None selects the newest version at this moment.
        `timeout`: seconds, from the arrival at the server, after which the ticket ends with DeadlineExceeded. Waiting
        and queueing count. It ends a little later even if the server is silent, in an ordered stream in its turn. A
        timeout of 0 or less has already passed; the ticket is submitted and ends so. Waiting for the window takes as
        long at most; a ticket without a place by then is not sent, and has ended with DeadlineExceeded.
        `priority`: 0 to 9; a larger number starts sooner.

        Raises only errors of the call itself: InvalidArgument (a dtype or element without a datatype),
        ResourceExhausted (inputs over the server's largest message), Unavailable (the stream is closed or has ended),
        ValueError (a ticket of another stream, a name to keep twice, a timeout of NaN), TypeError (a ticket as an
        input). Awaiting the ticket raises the rest. Once the client knows the model's description, for which it asks in
        the background, it does not send inputs that the model does not take, nor asks for outputs that it does not
        have: the ticket has then ended already.
        """
        transport = self._transport or self._opened()
        if _get_running_loop() is not transport.loop:
            transport.check_loop()
        if timeout is not None:
            timeout = seconds(timeout)
        if type(priority) is not int:
            priority = index(priority)
        protocol = transport.protocol
        ticket = Ticket(transport)
        if transport.window_queue.contended or protocol.free_window <= 0:
            too_late = await transport.wait_turn(timeout)
            if too_late is not None:
                normalized(inputs)  # which says what is wrong with them
                protocol.refuse(ticket, names_of(model, version, outputs, keep, keep_inputs), too_late)
                return ticket
        try:
            protocol.submit(ticket, model, version, inputs, outputs, keep, timeout, priority, keep_inputs)
        except DescriptionNeeded as needed:
            transport.window_queue.admit()
            await self._submit_described(needed.names, ticket, inputs, timeout, priority)
        except BaseException:
            transport.window_queue.admit()
            raise
        if timeout is not None:
            transport.set_timeout(ticket, timeout)
        transport.wake_writer()
        return ticket

    async def _submit_described(
        self, names: Names, ticket: Ticket, inputs: Inputs, timeout: float | None, priority: int
    ) -> None:
        """Submit what depends on a fresh description of the model, or end the ticket with what is wrong with it."""
        model, version, outputs, keep, keep_inputs = names
        transport = self._opened()
        end = None if timeout is None else transport.loop.time() + timeout
        for _ in range(MAX_REFRESHES):
            await self._descriptions.refresh(key_of(names), _left(transport, end))
            if transport.window_queue.contended or transport.protocol.free_window <= 0:
                too_late = await transport.wait_turn(_left(transport, end))
                if too_late is not None:
                    transport.protocol.refuse(ticket, names, too_late)
                    return
            try:
                transport.protocol.submit(ticket, model, version, inputs, outputs, keep, timeout, priority, keep_inputs)
                return
            except DescriptionNeeded as needed:
                transport.window_queue.admit()
                if needed.error is not None:
                    transport.protocol.refuse(ticket, names, needed.error)
                    return
            except BaseException:
                transport.window_queue.admit()
                raise
        raise changes_too_often(names)

    @overload
    def map(
        self,
        model: str,
        inputs: Source[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["raise"] = "raise",
        with_items: Literal[False] = False,
    ) -> AsyncGenerator[Outputs, None]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Source[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["return"],
        with_items: Literal[False] = False,
    ) -> AsyncGenerator[Outputs | Exception, None]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Source[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["raise"] = "raise",
        with_items: Literal[True],
    ) -> AsyncGenerator[tuple[Item, Outputs], None]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Source[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["return"],
        with_items: Literal[True],
    ) -> AsyncGenerator[tuple[Item, Outputs | Exception], None]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Source[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Errors = "raise",
        with_items: bool = False,
    ) -> AsyncGenerator[Any, None]: ...

    def map(
        self,
        model: str,
        inputs: Source[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Errors = "raise",
        with_items: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Run one inference for each item of an iterable or async iterable, and yield the outputs in its order.

        Items are inputs as `submit` takes them. At most `ahead` of them are read beyond the results that were taken, so
        an endless source is read at the pace at which results are taken. Each item is sent as soon as it is there, and
        each result comes as soon as it is there: neither a slow source nor a slow consumer holds the other back. For
        this an iterable other than a list, tuple, set or deque is read in a thread of its own.

        `errors`: with "raise" the first error is raised in its turn. With "return" the error of an item comes in place
        of its outputs, and only the end of the stream or an error of the source itself is raised.
        `with_items`: yield pairs of the item, as it came, and its outputs.

        Leaving early, because of an error or not, cancels the tickets in flight.
        """
        check_map(inputs, ahead, errors)
        names = None if outputs is None else as_names("outputs", outputs)

        def submit(item: Item) -> Awaitable[Ticket]:
            return self.submit(model, item, outputs=names, version=version, timeout=timeout, priority=priority)

        def is_closed() -> bool:
            return self._opened().protocol.closed is not None

        return map_in_order(submit, inputs, ahead, errors, with_items, is_closed)

    @property
    def hello(self) -> Hello:
        """The server's version and limits, as it gave them when the stream was opened."""
        hello = self._opened().protocol.hello
        assert hello is not None
        return hello

    @property
    def in_flight(self) -> int:
        """The number of tickets in flight, fetches included."""
        return len(self._opened().protocol.in_flight)

    @property
    def full(self) -> bool:
        """Whether `submit` would wait now: for the window, or because too many bytes wait to be sent."""
        transport = self._opened()
        return transport.window_queue.contended or transport.protocol.free_window <= 0

    @property
    def draining(self) -> bool:
        """Whether the stream ends on its server's side; a stream with `resume` goes on elsewhere by itself.

        A server that stops refuses new inferences (Unavailable) from then on. One that asks the stream to move does so
        after its grace period. Everything else goes on until the stream is left: open another for what is new.
        """
        return self._opened().protocol.draining

    def _opened(self) -> StreamTransport:
        if self._transport is None:
            raise RuntimeError("the stream is not open: use it in `async with`")
        return self._transport

    def __repr__(self) -> str:
        if self._transport is None:
            return f"<Stream to {self._target}, not open>"
        protocol, waiting = self._transport.protocol, len(self._transport.window_queue)
        return f"<Stream to {self._target}, {protocol.load()}, {waiting} waiting>"


def _left(transport: StreamTransport, end: float | None) -> float | None:
    """Seconds until then."""
    return None if end is None else max(0.0, end - transport.loop.time())
