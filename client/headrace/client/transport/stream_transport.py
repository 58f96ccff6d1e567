"""A stream at work: carries messages between the pure protocol and gRPC, and wakes the application's tasks."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence

import grpc
import grpc.aio

from headrace.client.protocol.slices import Slices
from headrace.client.protocol.stream_state import StreamState
from headrace.client.protocol.ticket_state import TicketState
from headrace.client.protocol.timeouts import MAX_CLOCK_SECONDS, clock_seconds
from headrace.client.transport.callback_exchange import CallbackCall, CallbackExchange
from headrace.client.transport.channel import StreamCall
from headrace.client.transport.processes import check_same_process, forks
from headrace.client.transport.rpc_errors import cancelled_from_outside, error_of, has_vanished
from headrace.client.transport.waker import Waiter, Waker
from headrace.client.transport.window_queue import WindowQueue
from headrace.wire.errors import Cancelled, DeadlineExceeded, HeadraceError, Internal, Unavailable
from headrace.wire.frames import SCAN_FROM
from headrace.wire.memory import keep_freed_memory

GRACE_SECONDS = 0.1
"""How long after a timeout the client ends a ticket itself. Usually the server's answer is there before."""
GOODBYE_SECONDS = 2.0
"""How long a stream without tickets in flight waits for the server to end it."""

logger = logging.getLogger(__name__)


class StreamTransport:
    """Carries messages, with one task for each direction, and wakes tasks that wait for a ticket or for the window.

    Only the reader decides how the stream ended: it gets the status, whichever task notices the end first.
    """

    def __init__(
        self,
        call: StreamCall,
        protocol: StreamState,
        target: str,
        avoid: Callable[[], None] = lambda: None,
    ) -> None:
        """`avoid`: has the next stream begin at another address, if there is one that answers."""
        self.avoid = avoid
        self.protocol: StreamState = protocol
        self.window_queue = WindowQueue(lambda: protocol.free_window)
        self.loop = asyncio.get_running_loop()
        self.waker = Waker(self.loop)
        self.call = call
        self.peer_has_vanished = False
        """Whether the connection was lost without a status."""
        self._target = target
        self._forks = forks()
        self.idle_writer: Waiter | None = None
        """What the writer waits for while there is nothing to write."""
        self._task: asyncio.Task[None] | None = None
        self._closing = self._was_draining = False
        self._expiry: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    async def greet(self, timeout: float) -> None:
        """Wait for Hello. Raises Unavailable after `timeout` seconds."""
        try:
            await self._wait_for_hello(timeout)
        except BaseException:  # and if the task is cancelled: nobody else knows the call
            self.call.cancel()
            raise

    async def _wait_for_hello(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(clock_seconds(timeout)):
                error = await self._receive()
        except TimeoutError:
            error = Unavailable(f"{self._target} did not say Hello within {round(timeout, 2):g} s")
        if error is None and self.protocol.hello is None:
            error = Internal(f"{self._target} did not begin with Hello")
        if error is not None:
            raise error
        logger.debug("the stream to %s is open: %s", self._target, self.protocol.hello)

    def start(self) -> None:
        """Start the two tasks, after Hello."""
        self._task = asyncio.create_task(self._run(), name=f"headrace stream to {self._target}")

    # For tickets and streams

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that the stream belongs to."""
        return self._forks != forks()

    def check_loop(self) -> None:
        """Raises RuntimeError in another process or on another loop than those of the stream."""
        what = f"the stream to {self._target}"
        check_same_process(self._forks, what)
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError(f"{what} belongs to another event loop; call connect() on the loop that uses it")

    async def wait_turn(self, timeout: float | None) -> HeadraceError | None:
        """Wait for a place in the window. Returns DeadlineExceeded if there is none within `timeout` seconds."""
        limit = clock_seconds(timeout)
        try:
            async with asyncio.timeout(None if limit is None else limit + GRACE_SECONDS):
                await self.window_queue.wait_turn()
        except TimeoutError:
            return DeadlineExceeded(f"there was no place in the window of {self._target} within {timeout:g} s")
        return None

    def set_timeout(self, ticket: TicketState, timeout: float) -> None:
        """End the ticket here, soon after its timeout, if the server has not ended it."""
        if timeout > MAX_CLOCK_SECONDS:
            return
        deadline = self.loop.time() + (timeout if timeout > 0 else 0.0) + GRACE_SECONDS
        if self.protocol.set_deadline(ticket, deadline):
            self._schedule_expiry()

    async def fetch(self, ticket: TicketState, source: TicketState, name: str, slices: Slices) -> None:
        """Queue a Fetch, waiting for a place in the window first. Raises Unavailable on a closed stream."""
        if self.window_queue.contended or self.protocol.free_window <= 0:
            await self.window_queue.wait_turn()
        try:
            self.protocol.fetch(ticket, source, name, slices)
        except BaseException:
            self.window_queue.admit()
            raise
        self.wake_writer()

    def release(self, source: TicketState, names: Sequence[str]) -> None:
        self.protocol.release(source, names)
        self.wake_writer()

    def cancel(self, ticket: TicketState) -> None:
        self.protocol.cancel(ticket)
        self.wake_writer()

    def wake_writer(self) -> None:
        """Tell the writer that there is something to write."""
        if self.idle_writer is not None:
            self.waker.due.append(self.idle_writer)
            self.waker.schedule()
            self.idle_writer = None

    async def finish(self) -> None:
        """Accept no more tickets, wait for those in flight, and end the stream.

        The stream is half-closed only when nothing is in flight, so that tickets can be cancelled until then.
        """
        self._closing = True
        self.protocol.close()
        self.window_queue.admit()
        self.wake_writer()
        self._say_goodbye()
        await self._ended()

    async def abort(self, error: HeadraceError) -> None:
        """End the stream at once. Tickets in flight fail with this error."""
        self.end(error)
        await self._ended()

    def end(self, error: HeadraceError) -> None:
        """Like `abort`, without waiting until everything is over."""
        self._closing = True
        self._deliver(self.protocol.end(error))
        self.call.cancel()

    async def _ended(self) -> None:
        assert self._task is not None
        await self._task

    # The two tasks

    async def _run(self) -> None:
        error: HeadraceError = Internal("the client failed while it worked on the stream")
        try:
            error = await self._exchange()
        except asyncio.CancelledError:
            error = Cancelled("the stream was cancelled before it had ended")
            raise
        finally:
            self.call.cancel()
            self._conclude(error)

    def _conclude(self, error: HeadraceError) -> None:
        """What is in flight ends, and the log says so."""
        failed = self.protocol.end(error)
        if self._closing and not failed:
            logger.debug("the stream to %s is closed", self._target)
        else:
            logger.warning("the stream to %s has ended: %s: %s", self._target, error.code.name, error.message)
        self._deliver(failed)
        for timer in (self._expiry, self._goodbye):
            if timer is not None:
                timer.cancel()

    async def _exchange(self) -> HeadraceError:
        """Read and write until the call has ended. Returns how it ended."""
        if isinstance(self.call, CallbackCall):
            return await CallbackExchange(self.call, self, self.waker).run()
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write())
            error = await self._read()
            writer.cancel()
        return error

    def next_message(self) -> bytes | None:
        """What is to be written now."""
        message = self.protocol.next_message()
        if message is not None:
            self.window_queue.admit()
            if len(message) > SCAN_FROM:
                keep_freed_memory()
        return message

    def is_finished(self) -> bool:
        """Whether nothing is to be written any more."""
        return self.protocol.finished

    async def _write(self) -> None:
        try:
            while True:
                while (message := self.next_message()) is not None:
                    await self.call.write(message)
                if self.is_finished():
                    break
                self.idle_writer = self.waker.waiter()
                await self.idle_writer
            await self.call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended.
            return

    async def _read(self) -> HeadraceError:
        while (error := await self._receive()) is None:
            pass
        return error

    async def _receive(self) -> HeadraceError | None:
        """Process one message. Returns an error if no other message can follow."""
        try:
            message = await self.call.read()
        except grpc.aio.AioRpcError as error:
            return self._failed(error)
        except asyncio.CancelledError as cancelled:
            if cancelled_from_outside():
                raise
            return self._failed(cancelled)
        return self.received(message if isinstance(message, bytes) else None)

    def received(self, message: bytes | None) -> HeadraceError | None:
        """Process one message; None is the end of the call. Returns an error if no other message can follow."""
        if message is None:
            return self._failed(self.call.failure() if isinstance(self.call, CallbackCall) else None)
        if len(message) > SCAN_FROM:
            keep_freed_memory()
        self._deliver(self.protocol.receive(message))
        if self.protocol.draining and not self._was_draining:
            self._was_draining = True
            does = "asks the stream to move" if self.protocol.asked_to_move else "is stopping"
            logger.info("%s %s, and will take no more inferences on it", self._target, does)
        return self.protocol.error

    def _failed(self, failure: BaseException | None) -> HeadraceError:
        """How the call has ended, by its status; None is OK."""
        if failure is None:
            return Unavailable(f"{self._target} has ended the stream")
        if isinstance(failure, grpc.aio.AioRpcError):
            self.peer_has_vanished = has_vanished(failure)
            return error_of(failure, self._target)
        return Cancelled("the connection was closed")

    def _deliver(self, tickets: Iterable[TicketState]) -> None:
        due = self.waker.due
        for ticket in tickets:
            waiters = ticket.waiters
            if waiters is not None:
                ticket.waiters = None
                for waiter in waiters:
                    if type(waiter) is Waiter:
                        due.append(waiter)
                    elif not waiter.done():
                        waiter.set_result(None)
        self.waker.schedule()
        self.window_queue.admit()
        if self.protocol.closed is not None:
            self.wake_writer()
            self._say_goodbye()

    def _schedule_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self.loop.call_at(self.protocol.next_deadline, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self._deliver(self.protocol.expire(self.loop.time()))
        self.wake_writer()
        if self.protocol.next_deadline < math.inf:
            self._schedule_expiry()

    def _say_goodbye(self) -> None:
        """When the last ticket has ended, bound the time that a silent server has to end the stream."""
        if self._goodbye is None and not self.protocol.in_flight:
            self._goodbye = self.loop.call_later(GOODBYE_SECONDS, self.call.cancel)

    def __repr__(self) -> str:
        return f"<StreamTransport to {self._target}, {self.protocol.load()}, {len(self.window_queue)} waiting>"
