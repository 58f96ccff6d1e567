"""Checkpoints: what a chain is made again from, so that its history is short."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest

from headrace.client.protocol.call_description import names_of
from headrace.client.protocol.inputs import Inputs, Reference, Zeros
from headrace.client.protocol.layouts import EMPTY, Layout
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.client.resuming import journal
from headrace.client.resuming.entry import Asked
from headrace.client.resuming.resumable_protocol import ResumableProtocol
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import (
    FailedPrecondition,
    InvalidArgument,
)
from tests.client.protocol import tiny_server
from tests.client.resuming.house import House, call, chain, x, y


def test_a_checkpoint_is_taken_and_not_shown(house: House) -> None:
    tickets = chain(house, journal.MAX_LINKS)
    assert list(call(house.server, tickets[-1].tag).outputs) == ["y", "z"]
    assert all(list(ticket.outputs()) == ["y"] for ticket in tickets)
    assert [each.tag for each in house.stream.journal.entries.values()] == [tickets[-1].tag]
    server = house.resume()
    house.run()
    last = house.submit({"x": house.refer(tickets[-1]), "u": x(1)})
    house.run()
    assert house.tags(server) == [last.tag]
    assert call(server, last.tag).inputs[0].WhichOneof("from") == "inline"
    assert y(last) == np.float32(2 ** (journal.MAX_LINKS + 1) - 2 + 1 + 1)


@pytest.mark.parametrize("outputs", [None, ["y", "z"], ["z", "y"], []])
def test_outputs_are_those_that_were_asked_for(house: House, outputs: list[str] | None) -> None:
    tickets = chain(house, journal.MAX_LINKS + 1, outputs=outputs)
    names = ["y", "z"] if outputs is None else outputs
    assert all(list(ticket.outputs()) == names for ticket in tickets)
    assert len(house.stream.journal.entries) == 2


def test_slices_and_kept_inputs_are_those_of_before(house: House) -> None:
    """Whether their source is made again or has a checkpoint."""
    row, long = np.arange(2), np.arange(9)
    first = house.submit({"x": long}, ("z",), keep_inputs=("x",))
    house.run()
    sliced = house.submit(
        {"x": house.refer(first, "z", slices=((3, 5),)), "u": house.refer(first, "x", slices=((7, 9),))}
    )
    house.resume()
    house.run()
    assert sliced.outputs()["y"].tolist() == (2 * long[3:5] + long[7:9] + 1).tolist()
    state = house.refer(first, "z", slices=((0, 2),))
    tickets: list[TicketState] = []
    for _ in range(journal.MAX_LINKS - 1):
        tickets.append(house.submit({"x": state, "u": row}, ("z",), keep_inputs=("u",)))
        state = house.refer(tickets[-1], take=True)
        house.run()
    outputs = list(call(house.server, tickets[-1].tag).outputs)
    assert outputs == ["y", "z"], "of a kept input the client has a checkpoint"
    server = house.resume()
    again = house.submit(
        {"x": house.refer(tickets[-1], "u", slices=((1, 2),)), "u": house.refer(tickets[-1], slices=((0, 1),))}
    )
    fetched = house.fetch(tickets[-1], "u")
    assert fetched.outputs()["u"].tolist() == [0, 1]
    house.run()
    assert again.error is None
    assert [source for command in server.commands for source in command.sources] == [], "both are sent inline"
    with pytest.raises(InvalidArgument, match="slice 0:3 does not lie inside axis 0 of size 2"):
        house.submit({"x": house.refer(tickets[-1], slices=((0, 3),))})


def test_what_cannot_be_made_again_is_not_kept_as_an_input(house: House) -> None:
    first = house.submit({"x": x(1)}, ("z",))
    with pytest.raises(ValueError, match="input 'x' is a reference, which a stream with resume=True cannot keep again"):
        house.submit({"x": house.refer(first)}, keep_inputs=("x",))
    with pytest.raises(
        ValueError, match="keep_inputs has 'x:0', which is not in inputs; with resume=True use the same"
    ):
        house.submit({"x": x(1)}, keep_inputs=("x:0",))


def test_a_fetch_of_a_checkpoint_needs_no_server(house: House) -> None:
    tickets = chain(house, journal.MAX_LINKS)
    server = house.resume()
    fetched = house.fetch(tickets[-1], slices=((0, 1),))
    whole = house.fetch(tickets[-1])
    assert fetched.ended
    assert fetched.outputs()["z"].tolist() == whole.outputs()["z"].tolist()
    with pytest.raises(InvalidArgument, match="does not lie inside"):
        house.fetch(tickets[-1], slices=((0, 2),))
    house.run()
    assert server.commands[1:] == []
    with pytest.raises(ValueError, match="read-only"):
        whole.outputs()["z"][0] = 1


def test_large_inputs_bring_the_checkpoint_forward(house: House) -> None:
    house = House(max_message_bytes=8 << 20)
    house.connect()
    large = np.zeros(1 << 18, np.float32)
    tickets: list[TicketState] = []
    for _ in range(16):
        state = house.refer(tickets[-1], take=True) if tickets else large
        tickets.append(house.submit({"x": state, "u": large}, keep=("z",)))
        house.run()
        assert house.stream.journal.bytes <= journal.MAX_LINK_BYTES + 2 * large.nbytes
    assert all(ticket.error is None for ticket in tickets)


def test_a_long_chain_goes_over_many_breaks(house: House) -> None:
    most, expected = 0, np.zeros(1, np.int64)
    ticket: TicketState | None = None
    for step in range(3_000):
        state = house.refer(ticket, take=True) if ticket else expected
        ticket = house.submit({"x": state, "u": np.full(1, step)}, keep=("z",), outputs=[])
        expected = 2 * (expected + step)
        house.run()
        house.server.commands.clear()
        if step % 211 == 210:
            house.resume()
        most = max(most, len(house.stream.journal.entries))
    assert ticket is not None
    fetched = house.fetch(ticket)
    house.run()
    assert fetched.outputs()["z"].tolist() == expected.tolist()
    assert len(house.servers) == 15
    assert most <= journal.MAX_LINKS + 1


class Instant:
    """A connection whose server has the answer in no time, and forgets what it has done.

    No StreamProtocol by inheritance, which does not allow that where it is compiled.
    """

    def __init__(self) -> None:
        self._protocol = StreamProtocol(1 << 20)
        hello = pb.Hello(window=16, max_message_bytes=1 << 20, keep_us=1_000_000)
        self._protocol.receive(tiny_server.message(pb.Event(kind=pb.Event.HELLO, hello=hello)))
        z = pb.Tensor(name="z", datatype=pb.INT64, shape=[1])
        self.layout = Layout([z], [z], "1", 7)
        self.attempts: list[TicketState] = []
        self.last_tag = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def submit(
        self,
        ticket: TicketState,
        model: str,
        version: str | int | None,
        inputs: Inputs,
        outputs: Iterable[str] | None,
        keep: Iterable[str],
        timeout: float | None,
        priority: int,
        keep_inputs: Iterable[str] = (),
    ) -> None:
        ticket.tag = self.last_tag = self.last_tag + 1
        ticket.call = Asked(*names_of(model, version, outputs or (), keep, keep_inputs))
        ticket.layout, ticket.tensors = (self.layout, [bytes(8)]) if outputs else (EMPTY, ())
        self.attempts.append(ticket)

    def receive(self, message: bytes) -> list[TicketState]:
        ended, self.attempts = self.attempts, []
        return ended


def test_a_chain_of_any_length_takes_the_memory_of_a_few_steps() -> None:
    stream = ResumableProtocol(1 << 20, lambda: 0.0)
    stream.connected(cast(StreamProtocol, Instant()))
    ticket, state, sent = TicketState(None), Zeros((1,), np.dtype(np.int64)), np.zeros(16, np.float32)
    inputs: dict[str, Any] = {"state": state, "x": sent}
    most = most_bytes = objects = 0
    for step in range(105_000):
        stream.submit(ticket, "m", None, inputs, [], ["z"], None, 0)
        assert stream.receive(b"") == [ticket]
        inputs["state"] = Reference(stream, ticket.tag, "z", take=True)
        ticket = TicketState(None)
        most = max(most, len(stream.journal.entries))
        most_bytes = max(most_bytes, stream.journal.bytes)
        if step % 9_999 == 9_998:
            stream.disconnected()
            assert stream.connected(cast(StreamProtocol, Instant())) == 0
            gc.collect()
            objects = objects or len(gc.get_objects())
    assert most <= journal.MAX_LINKS + 1
    assert most_bytes <= (journal.MAX_LINKS + 1) * sent.nbytes
    gc.collect()
    assert len(gc.get_objects()) < objects + 1_000  # 31 entries may be there, or none


def test_a_checkpoint_too_large_says_so(house: House) -> None:
    house = House(max_message_bytes=70_000)
    house.connect()
    large = np.zeros(17_400, np.float32)  # as an output it fits, with an input beside it no more
    tickets = [house.submit({"x": large}, keep=("z",))]
    for _ in range(journal.MAX_LINKS - 1):
        tickets.append(house.submit({"x": house.refer(tickets[-1], take=True)}, keep=("z",)))
        house.run()
    assert isinstance(tickets[-1].error, FailedPrecondition)
    assert "'z') is too large for a checkpoint" in tickets[-1].error.message
    assert "use a stream without resume" in tickets[-1].error.message


def test_two_names_of_one_output_are_asked_to_be_one(house: House) -> None:
    """A checkpoint would name the output twice."""
    house = House(window=64)
    house.connect()
    tickets = [house.submit({"x": x()}, keep=("z",))]
    for _ in range(journal.MAX_LINKS - 1):
        tickets.append(house.submit({"x": house.refer(tickets[-1])}, keep=("z",)))
    while house.write():
        pass
    house.server.fail(tickets[-1].tag, InvalidArgument.code, "output 'z' is named twice in outputs")
    house.run()
    assert "give both the same name" in str(tickets[-1].error)
