"""grpcio's Cython layer, which its own synchronous client (`grpc/_channel.py`) stands on: imported only here.

The layer is private. So nothing relies on it before `check` has seen it work, and the versions for which the tests have
passed are listed.

How it is used, everywhere:
- A batch owns its operations. An operation in two batches is freed twice.
- The events of a channel come in a queue of its own. `next_call_event` waits for the next one, for as long as it takes:
  there is no deadline, and no look without waiting.
- A batch's tag is called with its event, which is what keeps a received message. If there is no memory for that
  message, the event is lost, and the channel cannot be closed: it would wait for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from time import time
from typing import Any, Protocol, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpcio's stubs leave it out: it is private

TESTED = ("1.85",)
"""Versions of grpcio, without the number of the patch."""
CHECK_SECONDS = 2.0
"""How long the call of the check may take. It takes a millisecond."""

Operation: TypeAlias = Any
"""One of cygrpc.*Operation."""
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
Batch: TypeAlias = tuple[tuple[Operation, ...], Callable[[Any], None]]
"""Operations, and the tag that is called when all of them are done."""


class Event(Protocol):
    """cygrpc.BatchOperationEvent."""

    success: bool
    tag: Callable[[Event], None]
    batch_operations: Sequence[Operation]


class CoreCall(Protocol):
    """cygrpc.IntegratedCall."""

    def operate(self, operations: Sequence[Operation], tag: Callable[[Event], None]) -> bool:
        """Start a batch, on any thread. Returns False if all batches of the call have ended: it is over."""

    def cancel(self, code: int, details: str) -> None:
        """Has no effect when the call is over."""


class CoreChannel(Protocol):
    """cygrpc.Channel."""

    def integrated_call(
        self,
        flags: int,
        method: bytes,
        host: None,
        deadline: float | None,
        metadata: Metadata,
        credentials: None,
        operationses_and_tags: Sequence[Batch],
        /,
    ) -> CoreCall:
        """Raises ValueError for metadata that gRPC does not take."""

    def next_call_event(self) -> Event: ...
    def check_connectivity_state(self, try_to_connect: bool, /) -> int: ...
    def close(self, code: int, details: str) -> None: ...


class UnsuitableError(Exception):
    """This grpcio cannot be used like this. The message is half a sentence for the reader of a log."""


def new_channel(
    target: str, options: Iterable[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
) -> CoreChannel:
    agent = (cygrpc.ChannelArgKey.primary_user_agent_string.decode(), f"grpc-python/{grpc.__version__}")
    inner = None if credentials is None else credentials._credentials  # type: ignore[attr-defined]
    channel: CoreChannel = cygrpc.Channel(target.encode(), (*options, agent), inner)
    return channel


def start_call(
    channel: CoreChannel, method: str, deadline: float | None, metadata: Metadata, batches: Sequence[Batch]
) -> CoreCall:
    """`deadline` is in seconds since 1970. `metadata` is what `send_metadata` of a batch sends, and only for errors."""
    return channel.integrated_call(0, method.encode(), None, deadline, metadata, None, batches)


def cancel_call(call: CoreCall) -> None:
    call.cancel(cygrpc.StatusCode.cancelled, "Locally cancelled by application!")


def close_channel(channel: CoreChannel) -> None:
    """Waits for ever unless all events of its calls have been taken from the queue."""
    channel.close(cygrpc.StatusCode.cancelled, "Channel closed!")


def send_metadata(metadata: Metadata) -> Operation:
    return cygrpc.SendInitialMetadataOperation(metadata, 0)


def receive_metadata() -> Operation:
    return cygrpc.ReceiveInitialMetadataOperation(0)


def send_message(message: bytes) -> Operation:
    return cygrpc.SendMessageOperation(message, 0)


def receive_message() -> Operation:
    return cygrpc.ReceiveMessageOperation(0)


def send_close() -> Operation:
    return cygrpc.SendCloseFromClientOperation(0)


def receive_status() -> Operation:
    return cygrpc.ReceiveStatusOnClientOperation(0)


def is_tested() -> bool:
    """Whether the tests have passed with this version of grpcio."""
    return grpc.__version__.rpartition(".")[0] in TESTED


def check() -> None:
    """Make a call that fails, and one that is never sent. Raises UnsuitableError if anything goes otherwise."""
    try:
        _check()
    except UnsuitableError:
        raise
    except Exception as error:  # whatever another version raises
        raise UnsuitableError(f"its call to nobody has failed: {error!r}") from error


def _check() -> None:
    channel = new_channel(f"unix:/nobody-{secrets.token_hex()}", (), None)
    ended: list[Event] = []
    first: list[Event] = []
    idle = start_call(channel, "/headrace.Check/Wake", None, (), [((receive_status(),), ended.append)])
    for _ in range(2):
        if not idle.operate((), first.append):
            raise UnsuitableError("a call that was never sent takes no empty batch")
        _next(channel)
    if len(first) != 2:
        raise UnsuitableError("an empty batch does not end at once")
    if channel.check_connectivity_state(False):
        raise UnsuitableError("a call that was never sent connects its channel")
    sent = (send_metadata(()), send_message(b""), send_close(), receive_metadata(), receive_message(), receive_status())
    start_call(channel, "/headrace.Check/Fail", time() + CHECK_SECONDS, (), [(sent, ended.append)])
    _next(channel)
    cancel_call(idle)
    _next(channel)
    codes = [event.batch_operations[-1].code() for event in ended]
    if codes != [cygrpc.StatusCode.unavailable, cygrpc.StatusCode.cancelled]:
        raise UnsuitableError(f"its calls to nobody end with {codes}")
    if idle.operate((), first.append):
        raise UnsuitableError("a call that is over takes a batch")
    close_channel(channel)


def _next(channel: CoreChannel) -> None:
    event = channel.next_call_event()
    event.tag(event)
