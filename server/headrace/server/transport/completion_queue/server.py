"""A server whose calls arrive in the completion queue."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from functools import partial
from typing import ClassVar

from headrace.polling.expected import Expected
from headrace.server.dispatcher.event_loop import PollingLoop
from headrace.server.services.call import Answering, Rpc, Service
from headrace.server.transport.addresses import Addresses
from headrace.server.transport.binding import bind
from headrace.server.transport.completion_queue.backlog import Backlog
from headrace.server.transport.completion_queue.call import QueueCall, RefusedCall
from headrace.server.transport.completion_queue.cython_layer import (
    CoreCall,
    Event,
    Queue,
    add_port,
    new_server,
)
from headrace.server.transport.completion_queue.handled import CallbackCall, TaskCall
from headrace.server.transport.completion_queue.selector import CompletionQueueLoop, CompletionQueueSelector
from headrace.server.transport.credentials import CurrentCertificates
from headrace.server.transport.entrance import Door, Entrance
from headrace.server.transport.interface import StatusOf
from headrace.server.transport.message_turns import MessageTurns
from headrace.server.transport.options import NO_SUCH_METHOD, TOO_MANY_CALLS, ServerOptions
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError, ResourceExhausted, Unimplemented

ASKED_CALLS = 256
"""Calls that gRPC is asked for in advance: many more than are read at once, or some would wait unseen."""


class CompletionQueueTransport:
    """`interface.Transport`, on what `cython_layer.open_queue` returns."""

    name: ClassVar[str] = "completion-queue"

    def __init__(self, queue: Queue, call: CoreCall, busy_poll: float) -> None:
        self.selector = CompletionQueueSelector(queue, call, busy_poll)

    def new_loop(self) -> PollingLoop:
        return CompletionQueueLoop(self.selector)

    def server(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        status_of: StatusOf,
        receiving: Receiving,
        options: ServerOptions,
    ) -> CompletionQueueServer:
        return CompletionQueueServer(self.selector, services, entrance, status_of, receiving, options)


class CompletionQueueServer:
    """`interface.Server`."""

    def __init__(
        self,
        selector: CompletionQueueSelector,
        services: Sequence[Service],
        entrance: Entrance,
        status_of: StatusOf,
        receiving: Receiving,
        options: ServerOptions,
    ) -> None:
        queue = self._queue = selector.queue
        rpcs = {f"/{service.name}/{name}": rpc for service in services for name, rpc in service.rpcs.items()}
        self._rpcs: dict[bytes, tuple[Rpc, Door]] = {
            path.encode(): (rpc, entrance.door(path)) for path, rpc in rpcs.items()
        }
        self.status_of = status_of
        self.receiving = receiving
        self._max_calls = options.max_calls
        self._server = new_server(queue, options.for_grpc())
        self._started = False
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[None] | None = None
        """Set from when the server is to stop; done when gRPC has stopped it."""
        self._calls: set[QueueCall] = set()
        """Those that gRPC, or their handler, has not done with."""
        self.turns = MessageTurns()
        self.backlog = Backlog(
            self._begin,
            self._turn_away,
            self._client_of,
            options.max_waiting,
            options.longest_wait,
            selector.when_empty,
        )

    def listen(self, addresses: Addresses, certificates: CurrentCertificates | None) -> None:
        bind(addresses, certificates, partial(add_port, self._server))

    async def start(self) -> None:
        self._server.start(backup_queue=False)
        self._started = True
        for _ in range(ASKED_CALLS):
            self._ask()

    async def stop(self, grace: float | None) -> None:
        if not self._started:
            return
        if self._stopped is None:
            self._stopped = self._loop.create_future()
            self.backlog.close()
            self._server.shutdown(self._queue, self._on_stopped)
        if grace is not None and not self._stopped.done():
            await asyncio.wait([self._stopped], timeout=grace)
        if not self._stopped.done():
            self._server.cancel_all_calls()
            await asyncio.wait([self._stopped])

    def _on_stopped(self, _event: Event) -> None:
        # gRPC does not say for every call that it has ended, before it says that the server has.
        for call in tuple(self._calls):
            call.cancelled()
        self._server.destroy()
        assert self._stopped is not None
        self._stopped.set_result(None)

    def _ask(self) -> None:
        if self._stopped is None:
            self._server.request_call(self._queue, self._queue, Expected(self._arrived, self._ask))

    def _arrived(self, event: Event) -> None:
        self._ask()
        if not event.success:  # the server stops
            return
        found = self._rpcs.get(event.call_details.method)
        if found is None:
            self._refuse(event, Unimplemented(NO_SUCH_METHOD))
            return
        rpc, door = found
        if isinstance(rpc, Answering):
            self.backlog.arrived(event, rpc, door)
        elif len(self._calls) >= self._max_calls:
            self._refuse(event, ResourceExhausted(TOO_MANY_CALLS))
        else:
            self._calls.add(TaskCall(self, event, rpc, door))

    def _begin(self, event: Event, rpc: Answering, door: Door) -> None:
        if len(self._calls) >= self._max_calls:
            self._refuse(event, ResourceExhausted(TOO_MANY_CALLS))
        else:
            self._calls.add(CallbackCall(self, event, rpc, door))

    def _refuse(self, event: Event, error: HeadraceError) -> None:
        QueueCall(self, event).fail(error)

    def _turn_away(self, event: Event, error: HeadraceError) -> None:
        RefusedCall(self, event).fail(error)

    def _client_of(self, event: Event, door: Door) -> Hashable:
        """Whose call it is. Raises what it ends with if that may not make it."""
        call = RefusedCall(self, event)
        door.admit(call)
        return call.client

    def forget(self, call: QueueCall) -> None:
        self._calls.discard(call)

    def __repr__(self) -> str:
        return f"<CompletionQueueServer: {len(self._calls)} calls>"
