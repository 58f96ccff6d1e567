"""A deadline ends a ticket here, whatever the server does, and the window and what is kept stay right."""

import math

import pytest

from headrace.client.protocol.inputs import Reference
from headrace.client.protocol.stream_protocol import RECHECK_SECONDS, StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Code, DeadlineExceeded, FailedPrecondition, Internal, Unavailable
from tests.client.protocol.pure_streams import kinds, layout_event, opened, run, send, submit
from tests.client.protocol.tiny_server import TinyServer, failed, message


def with_deadline(stream: StreamProtocol, deadline: float, keep: tuple[str, ...] = ()) -> TicketState:
    ticket = submit(stream, keep=keep)
    stream.set_deadline(ticket, deadline)
    return ticket


def test_only_tickets_whose_deadline_has_passed_end() -> None:
    stream, _ = opened()
    late, later, never = with_deadline(stream, 1.0), with_deadline(stream, 2.0), submit(stream)
    assert stream.next_deadline == 1.0
    assert stream.expire(0.9) == []
    assert stream.expire(1.0) == [late]
    with pytest.raises(DeadlineExceeded, match="within its timeout"):
        late.outputs()
    assert stream.next_deadline == 2.0
    assert list(stream.in_flight.values()) == [later, never]
    assert stream.expire(5.0) == [later]
    assert stream.next_deadline == math.inf


def test_only_an_earlier_deadline_asks_for_another_timer() -> None:
    stream, _ = opened()
    assert [stream.set_deadline(submit(stream), deadline) for deadline in (2.0, 2.0, 3.0, 1.0)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_late_ticket_keeps_its_place_until_the_server_answers() -> None:
    stream, server = opened(window=2)
    ticket, other = with_deadline(stream, 1.0), submit(stream)
    send(stream, server)
    stream.expire(1.0)
    assert stream.free_window == 0
    assert "1/2 in flight, 1 late" in repr(stream)
    assert run(stream, server) == [other]  # the cancel arrives, and is answered
    assert kinds(server)[-1] == "CANCEL"
    assert stream.free_window == 2
    assert isinstance(ticket.error, DeadlineExceeded)


@pytest.mark.parametrize("layout", [0, 1])
def test_a_result_that_comes_late_is_ignored_and_what_it_keeps_is_released(layout: int) -> None:
    stream, server = opened(window=1)
    ticket = with_deadline(stream, 1.0, keep=("z",))
    send(stream, server)
    if layout:
        server.finish(ticket.tag)  # before the cancel arrives
    else:
        server.fail(ticket.tag, Code.INTERNAL, "broken")
    stream.expire(1.0)
    assert run(stream, server) == []
    assert isinstance(ticket.error, DeadlineExceeded)
    assert run(stream, server) == []
    assert not server.kept
    assert ("RELEASE" in kinds(server)) is bool(layout)
    assert stream.free_window == 1
    assert stream.error is None


def test_results_behind_a_late_one_are_not_mixed_up() -> None:
    stream, server = opened()
    tickets = [with_deadline(stream, 1.0 + number) for number in range(3)]
    send(stream, server)
    for ticket in tickets:
        server.finish(ticket.tag)
    assert stream.expire(1.0) == [tickets[0]]
    joined = b"".join(server.frames())  # one frame, as protobuf joins them
    assert stream.receive(joined) == tickets[1:]
    assert list(tickets[1].outputs()["y"]) == [1, 2, 3, 4]


def test_a_late_ticket_ends_once_on_the_server_too() -> None:
    stream, server = opened()
    ticket = with_deadline(stream, 1.0)
    send(stream, server)
    stream.expire(1.0)
    end = message(layout_event(1, [4]), pb.Event(kind=pb.Event.DONE, tag=ticket.tag, layout=1), tensors=(bytes(16),))
    assert stream.receive(end) == []
    stream.receive(message(failed(ticket.tag, Code.CANCELLED, "again")))
    assert isinstance(stream.error, Internal)


def test_a_ticket_that_the_application_cancelled_is_not_cancelled_twice() -> None:
    stream, server = opened()
    ticket = with_deadline(stream, 1.0)
    stream.cancel(ticket)
    stream.expire(1.0)
    stream.cancel(ticket)
    send(stream, server)
    assert kinds(server).count("CANCEL") == 1


def test_in_an_ordered_stream_a_deadline_waits_for_its_turn() -> None:
    server = TinyServer()
    stream = StreamProtocol(4 << 20, ordered=True)
    stream.receive(server.hello())
    first, second, third = submit(stream, keep=["z"]), with_deadline(stream, 1.0), with_deadline(stream, 2.0)
    fetch = TicketState(None)
    stream.fetch(fetch, first, "z", ())
    assert stream.expire(1.5) == []
    assert stream.next_deadline == 1.5 + RECHECK_SECONDS
    send(stream, server)
    server.finish(first.tag)
    assert [stream.receive(frame) for frame in server.frames()][-1] == [first]
    assert stream.expire(1.6) == [second]
    assert stream.next_deadline == 2.0
    assert stream.expire(2.0) == [third]
    assert list(stream.in_flight.values()) == [fetch]


def test_the_end_of_the_stream_forgets_deadlines() -> None:
    stream, _ = opened()
    with_deadline(stream, 1.0)
    with_deadline(stream, 2.0)
    stream.expire(1.0)
    assert len(stream.end(Internal("over"))) == 1
    assert stream.next_deadline == math.inf
    assert stream.expire(9.0) == []


def test_what_refers_to_a_ticket_that_was_not_sent_fails_on_the_server() -> None:
    stream, server = opened()
    refused = TicketState(None)
    stream.refuse(refused, ("m", None, ("y",), ("z",), ()), DeadlineExceeded("no place"))
    assert refused.ended
    assert not stream.in_flight
    refused.check_kept("z")
    reference = Reference(stream, refused.tag, "z")
    dependent, other = submit(stream, {"x": reference}), submit(stream)
    assert run(stream, server) == [dependent, other]
    assert isinstance(dependent.error, FailedPrecondition)
    assert other.error is None
    stream.close()
    with pytest.raises(Unavailable):
        stream.refuse(TicketState(None), ("m", None, ("y",), (), ()), DeadlineExceeded("no place"))
