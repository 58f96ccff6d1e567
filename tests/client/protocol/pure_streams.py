"""A stream without I/O: the client's protocol and a tiny server, which exchange messages step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.v1 import inference_pb2 as pb
from tests.client.protocol.tiny_server import TinyServer

X = np.arange(4, dtype=np.float32)


def opened(**bounds: int) -> tuple[StreamProtocol, TinyServer]:
    server = TinyServer(**bounds)
    stream = StreamProtocol(4 << 20)
    assert stream.receive(server.hello()) == []
    return stream, server


def submit(
    stream: StreamProtocol,
    inputs: Inputs | None = None,
    outputs: Sequence[str] | None = ("y",),
    keep: Sequence[str] = (),
    **options: Any,
) -> TicketState:
    ticket = TicketState(None)
    given = {"x": X} if inputs is None else inputs
    defaults = {"version": None, "timeout": None, "priority": 0}
    version, timeout, priority = (defaults | options).values()
    stream.submit(ticket, "m", version, given, outputs, keep, timeout, priority)
    return ticket


def send(stream: StreamProtocol, server: TinyServer) -> None:
    while (data := stream.next_message()) is not None:
        server.receive(data)


def run(stream: StreamProtocol, server: TinyServer) -> list[TicketState]:
    """Run every ticket, and return those that have ended."""
    ended: list[TicketState] = []
    send(stream, server)
    while server.ready:
        server.finish(server.ready[0])
    for frame in server.frames():
        ended += stream.receive(frame)
    return ended


def kinds(server: TinyServer) -> list[str]:
    return [pb.Command.Kind.Name(command.kind) for command in server.commands]


def layout_event(number: int, shape: Sequence[int] = ()) -> pb.Event:
    layout = pb.Layout(sent=[pb.Tensor(name="y", datatype=pb.FP32, shape=shape)])
    return pb.Event(kind=pb.Event.LAYOUT, layout=number, define=layout)
