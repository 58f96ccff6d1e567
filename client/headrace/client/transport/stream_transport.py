"""An exchange: one stream at work, between its pure state, the application's tasks and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import grpc
import grpc.aio

from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.transport.channel import StreamCall, cancelled_from_outside, error_of
from headrace.client.transport.waker import Waiter, Waker
from headrace.client.transport.window_queue import WindowQueue
from headrace.wire.errors import Cancelled, HeadraceError, Internal, Unavailable
from headrace.wire.frames import SCAN_FROM
from headrace.wire.memory import keep_freed_memory


class StreamTransport:
    """Carries messages, one task for each direction, and wakes who waits for a ticket or for room.

    How the stream ended is the reader's to say: it gets the status, whoever noticed first.
    """

    def __init__(self, call: StreamCall, state: StreamProtocol[Ticket], target: str) -> None:
        self.state = state
        self.room = WindowQueue(lambda: state.room)
        self.loop = asyncio.get_running_loop()
        self.alarm = Waker(self.loop)
        self._call = call
        self._target = target
        self._resting: Waiter | None = None
        """What the writer waits for while there is nothing to write."""
        self._task: asyncio.Task[None] | None = None

    async def open(self, timeout: float) -> None:
        """Wait for Hello and start to work. Raises Unavailable after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                error = await self._receive()
        except TimeoutError:
            error = Unavailable(f"{self._target} did not say Hello within {timeout:g} s")
        if error is None and self.state.hello is None:
            error = Internal(f"{self._target} did not begin with Hello")
        if error is not None:
            self._call.cancel()
            raise error
        self._task = asyncio.create_task(self._work(), name=f"headrace stream to {self._target}")

    # What tickets and applications do

    async def fetch(self, source: Ticket, name: str, slices: Slices) -> Ticket:
        """Queue a Fetch, as soon as there is room."""
        if self.room.crowded or self.state.room <= 0:
            await self.room.enter()
        ticket = Ticket(self)
        try:
            self.state.fetch(ticket, source, name, slices)
        except BaseException:
            self.room.give()
            raise
        self.rouse()
        return ticket

    def release(self, source: Ticket, names: Sequence[str]) -> None:
        self.state.release(source, names)
        self.rouse()

    def cancel(self, ticket: Ticket) -> None:
        self.state.cancel(ticket)
        self.rouse()

    def rouse(self) -> None:
        """There is something to write."""
        if self._resting is not None:
            self.alarm.due.append(self._resting)
            self.alarm.set()
            self._resting = None

    async def finish(self) -> None:
        """Take nothing more, wait for what is in flight, and end the stream.

        The stream is half-closed when nothing is in flight any more, not before, so that a ticket
        can be cancelled to the last.
        """
        self.state.close()
        self.room.give()
        self.rouse()
        await self._ended()

    async def abort(self, error: HeadraceError) -> None:
        """End the stream at once; what is in flight fails with this error."""
        self._deliver(self.state.end(error))
        self._call.cancel()
        await self._ended()

    async def _ended(self) -> None:
        assert self._task is not None
        await self._task

    # The two tasks

    async def _work(self) -> None:
        error: HeadraceError = Internal("the client failed while it worked on the stream")
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write())
                error = await self._read()
                writer.cancel()
        except asyncio.CancelledError:
            error = Cancelled("the stream was left before it had ended")
            raise
        finally:
            self._call.cancel()
            self._deliver(self.state.end(error))

    async def _write(self) -> None:
        try:
            while True:
                while (message := self.state.next_message()) is not None:
                    self.room.give()
                    if len(message) > SCAN_FROM:
                        keep_freed_memory()
                    await self._call.write(message)
                if self.state.finished:
                    break
                self._resting = self.alarm.waiter()
                await self._resting
            await self._call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended.
            return

    async def _read(self) -> HeadraceError:
        while (error := await self._receive()) is None:
            pass
        return error

    async def _receive(self) -> HeadraceError | None:
        """Take a message. Gives why there will be no other."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            return error_of(error, self._target)
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
            return Cancelled("the connection was closed")
        if isinstance(message, bytes):
            if len(message) > SCAN_FROM:
                keep_freed_memory()
            self._deliver(self.state.receive(message))
            return self.state.error
        return Unavailable(f"{self._target} has ended the stream")

    def _deliver(self, tickets: Iterable[Ticket]) -> None:
        due = self.alarm.due
        for ticket in tickets:
            waiters = ticket.waiters
            if waiters is not None:
                ticket.waiters = None
                for waiter in waiters:
                    if type(waiter) is Waiter:
                        due.append(waiter)
                    elif not waiter.done():
                        waiter.set_result(None)
        self.alarm.set()
        self.room.give()
        if self.state.closed is not None:
            self.rouse()
