"""What is sent again after a break, what is not, and what is said when something cannot be made again."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

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
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from tests.client.protocol import tiny_server
from tests.client.protocol.tiny_server import TinyServer
from tests.client.resuming.house import House, x

INFER, RELEASE, FETCH = pb.Command.INFER, pb.Command.RELEASE, pb.Command.FETCH


@pytest.fixture
def house() -> House:
    house = House()
    house.connect()
    return house


def y(ticket: TicketState) -> float:
    return float(ticket.outputs()["y"][0])


def call(server: TinyServer, tag: int) -> pb.Call:
    """The call of an Infer, as the server has received it."""
    (command,) = [each for each in server.commands if each.kind == INFER and each.tag == tag]
    return server.calls[command.call]


# Order, sources, outputs


def test_unfinished_tickets_are_sent_again_in_order_with_their_tags(house: House) -> None:
    tickets = [house.submit({"x": x(value)}) for value in range(5)]
    house.write()
    house.server.finish(2)
    house.read()
    second = house.resume()
    house.run()
    assert house.tags(second) == [1, 3, 4, 5]
    assert [y(ticket) for ticket in tickets] == [1, 2, 3, 4, 5]
    assert [ticket.tag for ticket in house.ended] == [2, 1, 3, 4, 5]


def test_a_source_that_was_answered_is_repeated_without_outputs(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",), outputs=["y"])
    house.run()
    house.submit({"x": x(9)})  # nothing to do with it
    dependent = house.submit({"x": house.refer(source)})
    second = house.resume()
    house.run()
    assert house.tags() == [1, 2, 3]
    assert (list(call(second, 1).outputs), list(call(second, 1).keep)) == ([], ["z"])
    assert y(dependent) == 3
    assert [ticket.tag for ticket in house.ended].count(1) == 1


def test_only_what_is_needed_is_sent_again_and_the_rest_when_it_is_needed(house: House) -> None:
    first = house.submit({"x": x(1)}, keep=("z",))
    second = house.submit({"x": house.refer(first, take=True)}, keep=("z",))
    other = house.submit({"x": x(5)}, keep=("z",))
    house.run()
    server = house.resume()
    house.run()
    assert house.tags(server) == []
    last = house.submit({"x": house.refer(second)})
    house.run()
    assert house.tags(server) == [1, 2, last.tag]
    assert y(last) == 5
    assert float(house.fetch(other).tag) > 0
    house.run()
    assert house.tags(server) == [1, 2, last.tag, other.tag]


def test_a_released_output_still_reaches_those_that_refer_to_it(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependents = [house.submit({"x": house.refer(source)}) for _ in range(3)]
    house.stream.release(source, ())
    server = house.resume()
    house.run()
    assert [y(ticket) for ticket in dependents] == [3, 3, 3]
    assert not server.kept
    assert [command.kind for command in server.commands].count(RELEASE) == 1
    assert not house.stream.journal.entries


@pytest.mark.parametrize("how", ["take", "release"])
def test_a_source_stays_while_another_of_its_dependents_may_have_to_be_made_again(house: House, how: str) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    held = house.submit({"x": house.refer(source)}, keep=("z",))
    house.run()
    last = house.submit({"x": house.refer(source, take=how == "take")})
    if how == "release":
        house.stream.release(source, ())
    server = house.resume()
    house.run()  # the source and the last one; nothing needs the held one yet
    assert y(last) == 3
    later = house.submit({"x": house.refer(held)})
    house.run()
    assert y(later) == 5
    assert [tag for tag, _ in server.kept] == [held.tag]
    server = house.resume()
    another = house.submit({"x": house.refer(held, take=True)})
    house.run()
    assert y(another) == 5
    assert not server.kept
    assert not house.stream.journal.entries


def test_a_source_is_released_when_the_last_that_may_need_it_is_forgotten(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    held = house.submit({"x": house.refer(source)}, keep=("z",))
    house.run()
    house.submit({"x": house.refer(source, take=True)})
    server = house.resume()
    house.run()
    assert [tag for tag, _ in server.kept] == [source.tag]
    house.stream.release(held, ())
    house.run()
    assert not server.kept


def test_released_and_taken_outputs_are_not_made_again(house: House) -> None:
    released = house.submit({"x": x()}, keep=("z",))
    taken = house.submit({"x": x()}, keep=("z",))
    house.run()
    house.stream.release(released, ["z"])
    house.submit({"x": house.refer(taken, take=True)})
    house.run()
    assert not house.stream.journal.entries
    server = house.resume()
    house.run()
    assert house.tags(server) == []


def test_a_ticket_that_was_refused_has_taken_nothing(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    refused = house.submit({"x": house.refer(source, take=True)})
    house.write()
    house.server.fail(refused.tag, ResourceExhausted.code, "no room", retryable=True)
    house.read()
    house.resume()
    again = house.submit({"x": house.refer(source, take=True)})
    house.run()
    assert y(again) == 3


def test_the_window_of_the_next_server_holds(house: House) -> None:
    """TinyServer checks it."""
    tickets = [house.submit({"x": x(value)}, keep=("z",)) for value in range(12)]
    chained = [house.submit({"x": house.refer(ticket)}) for ticket in tickets[:4]]
    house.window = 3
    house.resume()
    assert house.stream.free_window == 0  # those that are sent again come first
    house.run()
    assert [y(ticket) for ticket in chained] == [1, 3, 5, 7]
    assert house.stream.free_window > 0


def test_an_ordered_stream_stays_ordered() -> None:
    house = House(ordered=True)
    house.connect()
    tickets = [house.submit({"x": x(value)}) for value in range(6)]
    house.write()
    house.lose()
    house.stream.cancel(tickets[3])
    assert not tickets[3].ended  # its turn has not come
    house.connect()
    house.run()
    assert house.ended == tickets
    assert isinstance(tickets[3].error, Cancelled)


# Cancel, deadlines, fetches


def test_a_cancelled_ticket_is_not_sent_again(house: House) -> None:
    early, late = house.submit({"x": x()}), house.submit({"x": x()})
    dependent = house.submit({"x": x()}, keep=("z",))
    house.write()
    house.stream.cancel(early)
    house.lose()
    assert isinstance(early.error, Cancelled)
    house.stream.cancel(late)
    assert house.stream.take_ended() == [late]
    house.connect()
    house.run()
    assert house.tags() == [dependent.tag]


def test_a_deadline_shrinks_by_what_has_passed(house: House) -> None:
    house.submit({"x": x()}, timeout=5.0)
    short = house.submit({"x": x()}, timeout=1.0)
    house.write()
    house.lose()
    assert house.stream.next_deadline == 1.0
    house.now = 2.0
    assert house.stream.expire(house.now) == [short]
    assert house.stream.next_deadline == 5.0
    assert isinstance(short.error, DeadlineExceeded)
    server = house.connect()
    house.write()
    (command,) = [command for command in server.commands if command.kind == INFER]
    assert command.timeout_us == 3_000_000


def test_a_deadline_holds_at_a_silent_server_and_its_ticket_is_not_sent_again(house: House) -> None:
    silent = house.submit({"x": x()}, keep=("z",), timeout=1.0)
    other = house.submit({"x": x()})
    house.write()
    house.now = 2.0
    assert house.stream.expire(house.now) == [silent]
    assert isinstance(silent.error, DeadlineExceeded)
    house.lose()
    server = house.connect()
    house.write()
    assert [command.tag for command in server.commands if command.kind == INFER] == [other.tag]
    house.run()
    assert house.stream.in_flight == {}


def test_a_fetch_goes_on_at_the_next_server(house: House) -> None:
    source = house.submit({"x": x(1, size=4)}, keep=("z",))
    house.run()
    fetched = house.fetch(source, slices=((1, 3),))
    house.write()
    house.resume()
    house.run()
    assert fetched.outputs()["z"].tolist() == [2, 2]


# Checkpoints


def chain(house: House, steps: int, *, pipelined: int = 1, **options: object) -> list[TicketState]:
    tickets: list[TicketState] = []
    for step in range(steps):
        state = house.refer(tickets[-1], take=True) if tickets else x(0)
        tickets.append(house.submit({"x": state, "u": x(1)}, keep=("z",), **options))
        if step % pipelined == pipelined - 1:
            house.run()
    house.run()
    return tickets


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


class Instant(StreamProtocol):
    """A connection whose server has the answer in no time, and forgets what it has done."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        hello = pb.Hello(window=16, max_message_bytes=1 << 20, keep_us=1_000_000)
        super().receive(tiny_server.message(pb.Event(kind=pb.Event.HELLO, hello=hello)))
        z = pb.Tensor(name="z", datatype=pb.INT64, shape=[1])
        self.layout = Layout([z], [z], "1", 7)
        self.attempts: list[TicketState] = []

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


@pytest.mark.timeout(240)
def test_a_chain_of_any_length_takes_the_memory_of_a_few_steps() -> None:
    stream = ResumableProtocol(1 << 20, lambda: 0.0)
    stream.connected(Instant())
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
            assert stream.connected(Instant()) == 0
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


# Poison


def test_what_was_in_flight_at_two_breaks_is_sent_alone(house: House) -> None:
    tickets = [house.submit({"x": x(value)}) for value in range(3)]
    house.write()
    house.resume()
    house.write()
    assert house.tags() == [1, 2, 3]
    house.resume()
    house.write()
    assert house.tags() == [1]
    assert house.stream.free_window == 0
    house.run()
    assert house.tags() == [1, 2, 3]
    assert [y(ticket) for ticket in tickets] == [1, 2, 3]
    assert house.stream.free_window > 0


def test_the_third_break_fails_the_one_that_was_alone(house: House) -> None:
    poison = house.submit({"x": x()}, keep=("z",))
    dependent = house.submit({"x": house.refer(poison)})
    other = house.submit({"x": x()})
    for _ in range(3):
        house.write()
        house.resume()
    assert isinstance(poison.error, Internal)
    assert "broke 3 times" in poison.error.message
    house.run()
    assert isinstance(dependent.error, FailedPrecondition)
    assert "ticket 1 is not available" in dependent.error.message
    assert y(other) == 2


def test_after_a_crash_each_goes_alone_so_that_the_second_crash_has_its_cause(house: House) -> None:
    tickets = [house.submit({"x": x(value)}) for value in range(4)]
    house.write()
    house.resume(crashed=True)
    house.write()
    house.server.finish(1)
    house.read()
    house.write()
    assert house.tags() == [1, 2]
    house.resume(crashed=True)  # the second has ended two servers
    assert isinstance(tickets[1].error, Internal)
    assert "broke 2 times" in tickets[1].error.message
    house.run()
    assert [y(tickets[at]) for at in (0, 2, 3)] == [1, 3, 4]


def test_a_crash_under_many_is_first_followed_by_all_of_them() -> None:
    """One by one they would take long, and most crashes are not the fault of a request."""
    house = House(window=64)
    house.connect()
    tickets = [house.submit({"x": x()}) for _ in range(40)]
    for sent in (40, 1, 1):
        house.resume(crashed=True)
        while house.write():
            pass
        assert len(house.tags()) == sent
    assert isinstance(tickets[0].error, Internal)
    house.run()
    assert len(house.ended) == len(tickets)
    assert all(ticket.error is None for ticket in tickets[1:])


def test_a_source_that_ends_the_servers_when_it_is_made_again_is_lost(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependent = house.submit({"x": house.refer(source)})
    for _ in range(4):
        house.write()
        house.resume()
    house.run()
    assert dependent.ended
    assert "broke 3 times" in str(dependent.error)
    later = house.submit({"x": house.refer(source)})
    assert "broke 3 times" in str(later.error)


def test_breaks_count_anew_after_an_end(house: House) -> None:
    """A kept output may be made again at any number of servers."""
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    for _ in range(8):
        house.submit({"x": house.refer(source)})
        house.write()
        house.resume()
        house.run()
    assert all(ticket.error is None for ticket in house.ended)


# Versions and models


def test_a_source_is_made_again_by_the_same_version(house: House) -> None:
    house.version = "3"
    house.resume()
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependent = house.submit({"x": house.refer(source)})
    server = house.resume()
    house.run()
    assert (call(server, source.tag).version, call(server, dependent.tag).version) == ("3", "3")
    house.version = "4"
    later = house.submit({"x": house.refer(source)})
    house.resume()
    house.run()
    assert isinstance(later.error, FailedPrecondition)
    assert "could not be repeated (model 'm' has no version '3'); submit it again" in later.error.message
    again = house.submit({"x": house.refer(source)})
    house.run()
    assert again.error is not None
    assert again.error.message == later.error.message


def test_a_chain_that_goes_on_from_a_checkpoint_keeps_its_version(house: House) -> None:
    tickets = chain(house, journal.MAX_LINKS)
    house.version = "2"
    house.resume()
    later = house.submit({"x": house.refer(tickets[-1]), "u": x()})
    house.run()
    assert isinstance(later.error, FailedPrecondition)
    assert "were made by version 1 of model 'm', which the server" in later.error.message


def test_other_files_under_the_same_version_are_noticed(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependent = house.submit({"x": house.refer(source)}, keep=("z",))
    further = house.submit({"x": house.refer(dependent)})
    other = house.submit({"x": x()})
    house.fingerprint = 8
    house.resume()
    house.run()
    for ticket in (dependent, further):
        assert isinstance(ticket.error, FailedPrecondition)
    assert "has other files (fingerprint 0000000000000008, before 0000000000000007)" in str(dependent.error)
    assert y(other) == 2
    assert [ticket.tag for ticket in house.ended].count(dependent.tag) == 1


def test_other_files_are_noticed_where_a_checkpoint_is_used(house: House) -> None:
    tickets = chain(house, journal.MAX_LINKS)
    house.fingerprint = 8
    house.resume()
    later = house.submit({"x": house.refer(tickets[-1]), "u": x()})
    of_other_model = house.submit({"x": house.refer(tickets[-1]), "u": x()}, model="n")
    house.run()
    assert "results of both are never mixed" in str(later.error)
    assert of_other_model.error is None


def test_other_files_are_noticed_although_what_is_between_does_not_say(house: House) -> None:
    """Neither outputs nor kept ones: the layout of its end is empty."""
    tickets = chain(house, journal.MAX_LINKS)
    house.fingerprint = 8
    house.resume()
    later = tickets[-1:]
    for _ in range(3):
        later.append(house.submit({"x": house.refer(later[-1], take=True), "u": x()}, keep=("z",), outputs=[]))
    last = house.submit({"x": house.refer(later[-1], take=True), "u": x()})
    while house.write():
        pass
    for ticket in later[1:]:
        work = house.server.in_flight[ticket.tag]
        work.call.ClearField("keep")  # as the server describes what was taken before the end
        house.server.finish(ticket.tag)
    house.run()
    assert "results of both are never mixed" in str(last.error)


# Lost outputs


def test_a_lost_output_is_an_error_with_a_way_out(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    house.stream.journal.keep_seconds = 300.0
    house.now = 302.0
    house.submit({"x": x()})
    house.run()
    assert not house.stream.journal.entries
    reference = Reference(house.stream, source.tag, "z")
    with_reference = house.submit({"x": reference})
    fetched = house.fetch(source)
    assert isinstance(with_reference.error, FailedPrecondition)
    assert "nothing used it for the keep time of 300 s; submit its inference again" in with_reference.error.message
    assert isinstance(fetched.error, NotFound)


def test_a_ticket_of_another_stream_is_still_a_mistake(house: House) -> None:
    other = House()
    other.connect()
    foreign = other.submit({"x": x()}, keep=("z",))
    with pytest.raises(ValueError, match="another stream"):
        house.submit({"x": other.refer(foreign)})
    assert not house.stream.journal.entries


def test_what_raises_has_no_effect(house: House) -> None:
    with pytest.raises(InvalidArgument):
        house.submit({"x": np.zeros(1, np.complex64)}, keep=("z",))
    with pytest.raises(ResourceExhausted):
        house.submit({"x": np.zeros(1 << 20, np.float32)}, keep=("z",))
    with pytest.raises(TypeError, match="list of names"):
        house.submit({"x": x()}, outputs="y")
    with pytest.raises(ValueError, match="NaN"):
        house.submit({"x": x()}, timeout=float("nan"))
    assert (len(house.stream.journal.entries), house.stream.journal.bytes) == (0, 0)
    assert house.submit({"x": x()}).tag == 1


# Draining, and the end


def test_a_server_that_drains_gets_nothing_new_and_what_it_refused_is_sent_elsewhere(house: House) -> None:
    first = house.submit({"x": x()}, keep=("z",))
    house.write()
    house.server.drain()
    refused = house.submit({"x": house.refer(first, take=True)}, keep=("z",))
    behind = house.submit({"x": house.refer(refused)})
    house.run()
    assert house.stream.draining
    assert house.stream.free_window == 0
    assert (first.ended, refused.ended, behind.ended) == (True, False, False)
    assert house.stream.idle
    house.resume()
    house.run()
    assert (y(refused), y(behind)) == (3, 5)


def test_the_end_fails_what_is_in_flight_and_closes(house: House) -> None:
    ticket = house.submit({"x": x()})
    house.lose()
    error = Unavailable("patience is over")
    assert house.stream.end(error) == [ticket]
    assert ticket.error is error
    with pytest.raises(Unavailable, match="patience is over"):
        house.submit({"x": x()})


def test_inputs_are_copies(house: House) -> None:
    value = x(1)
    ticket = house.submit({"x": value})
    value[:] = 100
    house.resume()
    house.run()
    assert y(ticket) == 2
