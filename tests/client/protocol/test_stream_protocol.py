"""The protocol of a stream: commands in, messages out; messages in, ended tickets out."""

from typing import Any

import numpy as np
import pytest

from headrace.client.protocol.inputs import Reference
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import (
    Cancelled,
    Code,
    HeadraceError,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from tests.client.protocol.pure_streams import X, kinds, layout_event, opened, run, send, submit
from tests.client.protocol.tiny_server import TinyServer, failed, message


def test_the_first_command_is_open() -> None:
    stream = StreamProtocol(1 << 20, ordered=True)
    server = TinyServer()
    stream.receive(server.hello())
    submit(stream)
    send(stream, server)
    assert server.ordered
    assert server.client_max_bytes == 1 << 20
    assert kinds(server) == ["OPEN", "DEFINE", "INFER"]


def test_hello_gives_the_window_and_the_limits() -> None:
    stream, _ = opened(window=5)
    assert stream.free_window == 5
    assert stream.hello is not None
    assert stream.hello.window == 5
    assert stream.hello.keep_seconds == 300


def test_a_result_belongs_to_its_ticket() -> None:
    stream, server = opened()
    tickets = [submit(stream, {"x": X + i}) for i in range(3)]
    assert [ticket.tag for ticket in tickets] == [1, 2, 3]
    assert run(stream, server) == tickets
    for i, ticket in enumerate(tickets):
        np.testing.assert_array_equal(ticket.outputs()["y"], X + i + 1)
        assert ticket.times == (1, 2, 3)
        assert ticket.outputs() is ticket.outputs()


def test_a_call_is_described_once() -> None:
    stream, server = opened()
    for _ in range(3):
        submit(stream)
    submit(stream, outputs=None)
    submit(stream)
    send(stream, server)
    assert kinds(server)[1:] == ["DEFINE", "INFER", "INFER", "INFER", "DEFINE", "INFER", "INFER"]


def test_inferences_of_different_calls_may_alternate() -> None:
    """Each differs from the last in one respect."""
    stream, server = opened(window=64)
    variants: list[dict[str, Any]] = [
        {},
        {"inputs": {"x": X[:2]}},
        {"inputs": {"x": X.astype(np.int16)}},
        {"inputs": {"w": X}},
        {"inputs": {"x": X, "w": X}},
        {"outputs": ["z"]},
        {"outputs": None},
        {"version": "2"},
        {"timeout": 1.0},
        {"priority": 3},
        {"keep": ["z"]},
    ]
    tickets = [submit(stream, **variant) for _ in range(3) for variant in variants]
    assert run(stream, server) == tickets
    for turn in range(3):
        for at, variant in enumerate(variants):
            ticket = tickets[turn * len(variants) + at]
            total = sum(variant.get("inputs", {"x": X}).values())
            expected = {"y": total + 1, "z": 2 * total}
            names = variant.get("outputs", ["y"])
            assert ticket.outputs().keys() == set(expected if names is None else names)
            for name, array in ticket.outputs().items():
                np.testing.assert_array_equal(array, expected[name])
                assert array.dtype == total.dtype
    infers = [command for command in server.commands if command.kind == pb.Command.INFER]
    assert [command.timeout_us for command in infers] == [0, 0, 0, 0, 0, 0, 0, 0, 1_000_000, 0, 0] * 3
    assert [command.priority for command in infers] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0] * 3
    assert kinds(server).count("DEFINE") == len(variants) - 2  # options do not belong to the call


def test_string_and_big_endian_arrays_share_the_call_of_their_kind() -> None:
    stream, _ = opened()
    submit(stream, {"x": X})
    submit(stream, {"x": X.astype(">f4")})
    submit(stream, {"x": np.array(["a"])})
    submit(stream, {"x": np.array(["longer"])})
    while (data := stream.next_message()) is not None:
        commands = pb.ClientFrame.FromString(data).commands
        assert [command.kind for command in commands].count(pb.Command.DEFINE) == 2


def test_all_outputs_some_or_none_can_be_requested() -> None:
    stream, server = opened()
    tickets = [submit(stream, outputs=outputs) for outputs in (None, ["why"], [])]
    run(stream, server)
    assert [list(ticket.outputs()) for ticket in tickets] == [["y", "z"], ["why"], []]


def test_options_reach_the_server() -> None:
    stream, server = opened()
    submit(stream, timeout=0.5, priority=7, version="3")
    submit(stream)
    submit(stream, timeout=-1)
    submit(stream, timeout=float("inf"))
    send(stream, server)
    infers = [command for command in server.commands if command.kind == pb.Command.INFER]
    assert [command.timeout_us for command in infers] == [500_000, 0, 1, 2**63]
    assert [command.priority for command in infers] == [7, 0, 0, 0]
    assert server.calls[1].version == "3"


def test_a_chain_is_submitted_before_anything_has_run() -> None:
    stream, server = opened()
    a = submit(stream, outputs=[], keep=["z"])
    b = submit(stream, {"x": Reference(stream, a.tag, "z"), "w": X})
    c = submit(stream, {"x": Reference(stream, a.tag, "z", take=True)})
    d = submit(stream, {"x": Reference(stream, a.tag, "z")})
    assert set(run(stream, server)) == {a, b, c, d}
    np.testing.assert_array_equal(b.outputs()["y"], 2 * X + X + 1)
    np.testing.assert_array_equal(c.outputs()["y"], 2 * X + 1)
    assert d.error is not None
    assert d.error.code is Code.FAILED_PRECONDITION


def test_a_reference_to_another_stream_is_refused() -> None:
    stream, _ = opened()
    with pytest.raises(ValueError, match=r"tag=1.*another stream"):
        submit(stream, {"x": Reference(opened()[0], 1, "z")})
    assert stream.free_window == 16


def test_a_place_in_the_window_is_free_when_a_ticket_ends() -> None:
    stream, server = opened(window=2)
    submit(stream)
    assert stream.free_window == 1
    submit(stream)
    assert stream.free_window == 0
    run(stream, server)
    assert stream.free_window == 2


def test_an_error_is_a_new_exception_each_time() -> None:
    stream, server = opened()
    ticket = submit(stream)
    send(stream, server)
    server.fail(1, Code.NOT_FOUND, "no model 'm'", retryable=True)
    stream.receive(server.frames()[0])
    raised = []
    for _ in range(2):
        with pytest.raises(NotFound, match="no model 'm'") as caught:
            ticket.outputs()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert raised[0].retryable


def test_fetch_release_cancel_are_sent_in_order() -> None:
    stream, server = opened()
    a = submit(stream, keep=["y", "z"])
    fetched = TicketState(None)
    stream.fetch(fetched, a, "z", ((1, 3),))
    stream.release(a, ["y"])
    stream.release(a, [])
    stream.release(a, [])
    stream.cancel(a)
    stream.cancel(a)
    send(stream, server)
    assert kinds(server)[2:] == ["INFER", "FETCH", "RELEASE", "RELEASE", "CANCEL"]
    assert [list(command.release.outputs) for command in server.commands[4:6]] == [["y"], []]
    assert server.commands[3].tag == fetched.tag == 2


def test_an_ended_ticket_is_not_cancelled_and_a_failed_one_not_released() -> None:
    stream, server = opened()
    a = submit(stream, keep=["z"])
    run(stream, server)
    b = submit(stream, keep=["z"])
    send(stream, server)
    server.fail(b.tag, Code.INTERNAL, "x")
    stream.receive(server.frames()[0])
    sent = len(server.commands)
    stream.cancel(a)
    stream.release(b, [])
    assert stream.next_message() is None
    assert len(server.commands) == sent


def test_kept_outputs_are_known_by_name() -> None:
    stream, server = opened()
    ticket = submit(stream, keep=["z"])
    ticket.check_kept("z")
    with pytest.raises(KeyError, match="'y'"):
        ticket.check_kept("y")
    with pytest.raises(KeyError, match="'y'"):
        stream.release(ticket, ["y"])
    assert ticket.kept_spec("z") is None
    run(stream, server)
    spec = ticket.kept_spec("z")
    assert spec is not None
    assert spec.shape == (4,)
    stream.release(ticket, ["z"])
    with pytest.raises(KeyError, match="was released"):
        ticket.check_kept("z")


def test_a_draining_stream_goes_on() -> None:
    stream, server = opened()
    stream.receive(message(pb.Event(kind=pb.Event.DRAINING, grace_us=1)))
    assert stream.draining
    ticket = submit(stream)
    assert run(stream, server) == [ticket]


def test_tag_0_fails_everything_in_flight_and_ends_the_stream() -> None:
    stream, _ = opened()
    tickets = [submit(stream), submit(stream)]
    assert stream.receive(message(failed(0, Code.INVALID_ARGUMENT, "what was that"))) == tickets
    for ticket in tickets:
        with pytest.raises(InvalidArgument, match="what was that"):
            ticket.outputs()
    with pytest.raises(Unavailable, match="has ended: what was that"):
        submit(stream)
    assert stream.next_message() is None
    assert stream.receive(message(pb.Event(tag=1))) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        message(pb.Event(tag=9)),
        message(pb.Event(tag=1, layout=3)),
        message(failed(9, Code.INTERNAL, "")),
        message(layout_event(0)),
        message(layout_event(1025)),
        message(layout_event(1, [-1])),
        message(layout_event(1), pb.Event(tag=1, layout=1), tensors=[b"1234", b"5678"]),
        message(pb.Event(kind=pb.Event.HELLO, hello=pb.Hello())),
    ],
)
def test_a_server_that_breaks_the_contract_ends_the_stream(data: bytes) -> None:
    stream, _ = opened()
    tickets = [submit(stream), submit(stream)]
    assert stream.receive(data)[-1] is tickets[1]
    assert isinstance(stream.error, Internal)
    assert not stream.in_flight


def test_events_of_a_later_contract_are_ignored() -> None:
    stream, _ = opened()
    assert stream.receive(message(pb.Event(kind=99))) == []  # type: ignore[arg-type]  # on purpose
    assert stream.error is None


def test_the_end_of_the_stream_ends_every_ticket() -> None:
    stream, _ = opened()
    tickets = [submit(stream, keep=["z"]), submit(stream)]
    assert stream.end(Cancelled("left")) == tickets
    assert stream.end(Internal("later")) == []
    with pytest.raises(Cancelled, match="left"):
        tickets[0].outputs()
    with pytest.raises(Unavailable, match="left"):
        stream.fetch(TicketState(None), tickets[0], "z", ())
    stream.cancel(tickets[0])
    stream.release(tickets[0], [])
    assert stream.next_message() is None


def test_a_closed_stream_accepts_no_more_tickets_and_finishes() -> None:
    stream, server = opened()
    submit(stream)
    stream.close()
    assert not stream.finished
    with pytest.raises(Unavailable, match="was closed") as refused:
        submit(stream)
    assert not refused.value.retryable
    assert run(stream, server)
    assert stream.finished


@pytest.mark.parametrize("error", [ValueError, HeadraceError, TypeError])
def test_a_submit_that_raises_has_no_effect(error: type[Exception]) -> None:
    stream, server = opened()
    wrong: dict[type[Exception], dict[str, Any]] = {
        ValueError: {"timeout": float("nan")},
        HeadraceError: {"inputs": {"x": np.array([None])}},
        TypeError: {"outputs": "prob"},
    }
    with pytest.raises(error):
        submit(stream, **wrong[error])
    ticket = submit(stream)
    assert run(stream, server) == [ticket]


def test_reprs_show_the_load() -> None:
    stream, server = opened()
    ticket = submit(stream, keep=["z"])
    assert repr(ticket) == "<TicketState 1 of model 'm': in flight>"
    assert "open, 1/16 in flight" in repr(stream)
    run(stream, server)
    assert repr(ticket) == "<TicketState 1 of model 'm': done in 0.006 ms, keeps 'z'>"
    stream.end(Cancelled("x"))
    assert "ended, 0/16 in flight, 0 bytes unsent, 1 calls" in repr(stream)
