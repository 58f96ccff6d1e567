"""The two ways in which a call on the completion queue is handled: by a task, or by callbacks alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.server.services.call import LARGE_REQUEST, Answering, Bidirectional, ServerStreaming, Unary
from headrace.server.transport.completion_queue.call import Owner, QueueCall
from headrace.server.transport.completion_queue.cython_layer import Event
from headrace.server.transport.entrance import Door
from headrace.server.transport.handling import NO_REQUEST, handle
from headrace.wire.errors import HeadraceError, InvalidArgument


class TaskCall(QueueCall):
    """A call whose handler is a coroutine."""

    __slots__ = ("_task", "_waits_for_task")

    def __init__(self, owner: Owner, arrival: Event, rpc: Unary | ServerStreaming | Bidirectional, door: Door) -> None:
        super().__init__(owner, arrival)
        task = asyncio.get_running_loop().create_task(self._serve(rpc, door))
        task.add_done_callback(self._served)
        self._task: asyncio.Task[None] | None = task
        """None once it has ended. If it was cancelled, it refers to frames that refer to the call."""
        self._waits_for_task = False

    def end_with(self, error: HeadraceError) -> None:
        self.error = error
        self.client_gone()

    def client_gone(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def closed(self) -> None:
        if self._task is None:
            super().closed()
        else:
            self._waits_for_task = True

    async def _serve(self, rpc: Unary | ServerStreaming | Bidirectional, door: Door) -> None:
        try:
            response = await handle(rpc, door, self, self.owner.receiving)
        except Exception as error:
            self.fail(error)
        else:
            self.respond(response)

    def _served(self, _task: object) -> None:
        """The task has ended, or was cancelled before it began."""
        self._task = None
        self.abandon()
        if self._waits_for_task:
            super().closed()


class CallbackCall(QueueCall):
    """`services.call.AnswerableCall`: one request, one response, and no task."""

    __slots__ = ("_door", "_inside", "_rpc", "on_end")

    def __init__(self, owner: Owner, arrival: Event, rpc: Answering, door: Door) -> None:
        super().__init__(owner, arrival)
        self._rpc = rpc
        self._door = door
        self._inside = False
        """Whether it has gone through the gate."""
        self.on_end: Callable[[], None] | None = None
        try:
            door.admit(self)
            # A call that is refused need not send its message, and one that never sends it takes no place.
            rpc.gate.check()
        except HeadraceError as error:
            self.fail(error)
        else:
            owner.receiving.add(self)
            door.opened(self)
            owner.backlog.reads(self)
            self.read_then(self._requested)

    def client_gone(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()
        self._leave()

    def respond(self, response: bytes | None) -> None:
        try:
            super().respond(response)
        finally:
            self._leave()

    def fail(self, error: Exception) -> None:
        try:
            super().fail(error)
        finally:
            self._leave()

    def _leave(self) -> None:
        self.owner.receiving.remove(self, None)
        self._door.closed(self)
        if self._inside:
            self._inside = False
            self._rpc.gate.leave()
        self.owner.backlog.handled(self)

    def _requested(self, message: bytes | None) -> None:
        try:
            if self.ended:
                return
            if message is None:
                raise InvalidArgument(NO_REQUEST)
            self._rpc.gate.enter()
            self._inside = True
            if len(message) >= LARGE_REQUEST and (turn := self.turn()) is not None:
                turn.add_done_callback(lambda _turn: self._handle(message))
            else:
                self._handle(message)
        except Exception as error:
            self.fail(error)

    def _handle(self, message: bytes) -> None:
        if self.ended:
            return
        self.owner.receiving.remove(self, None)
        self._door.closed(self)
        try:
            self._rpc.handler(message, self)
        except Exception as error:
            self.fail(error)
        else:
            if not self.ended:
                self.owner.backlog.handled(self)
