"""Servers, one after another, and a stream that outlives its connections to them. Pure: a test moves the clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.inputs import Inputs, Reference
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.client.resuming.resumable_protocol import ResumableProtocol
from headrace.v1 import inference_pb2 as pb
from tests.client.protocol.tiny_server import INFERS, TinyServer

INFER, RELEASE, FETCH = pb.Command.INFER, pb.Command.RELEASE, pb.Command.FETCH


class House:
    """`connect` and `lose` the connection; `run` carries everything to and fro until nothing moves."""

    def __init__(self, *, window: int = 16, ordered: bool = False, max_message_bytes: int = 1 << 20) -> None:
        self.now = 0.0
        self.window = window
        self.max_message_bytes = max_message_bytes
        self.ordered = ordered
        self.stream = ResumableProtocol(4 << 20, lambda: self.now, ordered=ordered)
        self.servers: list[TinyServer] = []
        self.connected = False
        self.to_client: list[bytes] = []
        self.ended: list[TicketState] = []
        self.version, self.fingerprint = "1", 7

    @property
    def server(self) -> TinyServer:
        return self.servers[-1]

    def connect(self) -> TinyServer:
        server = TinyServer(self.window, self.max_message_bytes)
        server.any_version = False
        server.version, server.fingerprint = self.version, self.fingerprint
        self.servers.append(server)
        connection = StreamProtocol(4 << 20, ordered=self.ordered)
        connection.receive(server.hello())
        self.connected = True
        self.stream.connected(connection)
        self.ended += self.stream.take_ended()
        return server

    def lose(self, *, crashed: bool = False) -> None:
        """The connection breaks, and what was under way is lost with it."""
        self.connected = False
        self.to_client.clear()
        self.stream.disconnected(crashed=crashed)
        self.ended += self.stream.take_ended()

    def resume(self, *, crashed: bool = False) -> TinyServer:
        self.lose(crashed=crashed)
        return self.connect()

    def submit(self, inputs: Inputs, keep: tuple[str, ...] = (), **options: Any) -> TicketState:
        ticket = TicketState(None)
        given = {"model": "m", "version": None, "outputs": ["y"], "timeout": None, "priority": 0, **options}
        self.stream.submit(ticket, inputs=inputs, keep=keep, **given)
        if given["timeout"] is not None:
            self.stream.set_deadline(ticket, self.now + given["timeout"])
        return ticket

    def refer(self, ticket: TicketState, output: str = "z", *, take: bool = False, slices: Slices = ()) -> Reference:
        ticket.check_kept(output)
        return Reference(self.stream, ticket.tag, output, take, ticket, slices)

    def fetch(self, source: TicketState, output: str = "z", slices: Slices = ()) -> TicketState:
        ticket = TicketState(None)
        self.stream.fetch(ticket, source, output, slices)
        return ticket

    def write(self) -> bool:
        message = self.stream.next_message()
        if message is not None:
            self.server.receive(message)
        return message is not None

    def read(self) -> bool:
        self.to_client += self.server.frames()
        if self.to_client:
            self.ended += self.stream.receive(self.to_client.pop(0))
            return True
        return False

    def run(self) -> None:
        moved, rounds = True, 0
        while moved:
            rounds += 1
            assert rounds < 10_000, self.stream
            moved = self.write() or self.read()
            while self.server.ready:
                self.server.finish(self.server.ready[0])
                moved = True
        self.ended += self.stream.take_ended()

    def tags(self, server: TinyServer | None = None) -> list[int]:
        """The Infers that a server has received, in order."""
        return [command.tag for command in (server or self.server).commands if command.kind in INFERS]


def x(value: float = 1.0, size: int = 1) -> npt.NDArray[np.float32]:
    return np.full(size, value, np.float32)


def y(ticket: TicketState) -> float:
    return float(ticket.outputs()["y"][0])


def call(server: TinyServer, tag: int) -> pb.Call:
    """The call of an Infer, as the server has received it."""
    (command,) = [each for each in server.commands if each.kind == INFER and each.tag == tag]
    return server.calls[command.call]


def chain(house: House, steps: int, *, pipelined: int = 1, **options: object) -> list[TicketState]:
    """Infers each of which takes what the one before keeps."""
    tickets: list[TicketState] = []
    for step in range(steps):
        state = house.refer(tickets[-1], take=True) if tickets else x(0)
        tickets.append(house.submit({"x": state, "u": x(1)}, keep=("z",), **options))
        if step % pipelined == pipelined - 1:
            house.run()
    house.run()
    return tickets
