"""The pure half of a stream: commands in, messages out; messages in, ended tickets out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from headrace.client.protocol.inputs import Inputs, Reference
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
from tests.client.protocol.tiny_server import TinyServer, failed, message

State = StreamProtocol[TicketState]
X = np.arange(4, dtype=np.float32)


def opened(**bounds: int) -> tuple[State, TinyServer]:
    server = TinyServer(**bounds)
    state = State(4 << 20)
    assert state.receive(server.hello()) == []
    return state, server


def submit(
    state: State,
    inputs: Inputs | None = None,
    outputs: Sequence[str] | None = ("y",),
    keep: Sequence[str] = (),
    **options: Any,
) -> TicketState:
    ticket = TicketState(None)
    given = {"x": X} if inputs is None else inputs
    defaults = {"version": None, "timeout": None, "priority": 0}
    version, timeout, priority = (defaults | options).values()
    state.submit(ticket, "m", version, given, outputs, keep, timeout, priority)
    return ticket


def send(state: State, server: TinyServer) -> None:
    while (data := state.next_message()) is not None:
        server.receive(data)


def run(state: State, server: TinyServer) -> list[TicketState]:
    """Run all there is, until nothing changes."""
    ended: list[TicketState] = []
    send(state, server)
    while server.ready:
        server.finish(server.ready[0])
    for frame in server.frames():
        ended += state.receive(frame)
    return ended


def kinds(server: TinyServer) -> list[str]:
    return [pb.Command.Kind.Name(command.kind) for command in server.commands]


def test_the_first_command_opens() -> None:
    state = State(1 << 20, ordered=True)
    server = TinyServer()
    state.receive(server.hello())
    submit(state)
    send(state, server)
    assert server.ordered
    assert server.client_max_bytes == 1 << 20
    assert kinds(server) == ["OPEN", "DEFINE", "INFER"]


def test_hello_gives_window_and_bounds() -> None:
    state, _ = opened(window=5)
    assert state.room == 5
    assert state.hello is not None
    assert state.hello.window == 5
    assert state.hello.keep_seconds == 300


def test_a_result_belongs_to_its_ticket() -> None:
    state, server = opened()
    tickets = [submit(state, {"x": X + i}) for i in range(3)]
    assert [ticket.tag for ticket in tickets] == [1, 2, 3]
    assert run(state, server) == tickets
    for i, ticket in enumerate(tickets):
        np.testing.assert_array_equal(ticket.outputs()["y"], X + i + 1)
        assert ticket.times == (1, 2, 3)
        assert ticket.outputs() is ticket.outputs()


def test_one_description_for_all_inferences_of_a_call() -> None:
    state, server = opened()
    for _ in range(3):
        submit(state)
    submit(state, outputs=None)
    submit(state)
    send(state, server)
    assert kinds(server)[1:] == ["DEFINE", "INFER", "INFER", "INFER", "DEFINE", "INFER", "INFER"]


def test_calls_may_take_turns() -> None:
    """Each is another one than the last, in one thing."""
    state, server = opened(window=64)
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
    tickets = [submit(state, **variant) for _ in range(3) for variant in variants]
    assert run(state, server) == tickets
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
    assert kinds(server).count("DEFINE") == len(variants) - 2  # options are not of the call


def test_string_and_big_endian_arrays_share_the_call_of_their_kind() -> None:
    state, _ = opened()
    submit(state, {"x": X})
    submit(state, {"x": X.astype(">f4")})
    submit(state, {"x": np.array(["a"])})
    submit(state, {"x": np.array(["longer"])})
    while (data := state.next_message()) is not None:
        commands = pb.ClientFrame.FromString(data).commands
        assert [command.kind for command in commands].count(pb.Command.DEFINE) == 2


def test_outputs_all_some_or_none() -> None:
    state, server = opened()
    tickets = [submit(state, outputs=outputs) for outputs in (None, ["why"], [])]
    run(state, server)
    assert [list(ticket.outputs()) for ticket in tickets] == [["y", "z"], ["why"], []]


def test_options_travel() -> None:
    state, server = opened()
    submit(state, timeout=0.5, priority=7, version="3")
    submit(state)
    submit(state, timeout=-1)
    submit(state, timeout=float("inf"))
    send(state, server)
    infers = [command for command in server.commands if command.kind == pb.Command.INFER]
    assert [command.timeout_us for command in infers] == [500_000, 0, 1, 2**63]
    assert [command.priority for command in infers] == [7, 0, 0, 0]
    assert server.calls[1].version == "3"


def test_a_chain_is_submitted_before_anything_has_run() -> None:
    state, server = opened()
    a = submit(state, outputs=[], keep=["z"])
    b = submit(state, {"x": Reference(state, a.tag, "z"), "w": X})
    c = submit(state, {"x": Reference(state, a.tag, "z", take=True)})
    d = submit(state, {"x": Reference(state, a.tag, "z")})
    assert set(run(state, server)) == {a, b, c, d}
    np.testing.assert_array_equal(b.outputs()["y"], 2 * X + X + 1)
    np.testing.assert_array_equal(c.outputs()["y"], 2 * X + 1)
    assert d.error is not None
    assert d.error.code is Code.FAILED_PRECONDITION


def test_a_reference_to_another_stream_is_refused() -> None:
    state, _ = opened()
    with pytest.raises(ValueError, match=r"tag=1.*another stream"):
        submit(state, {"x": Reference(opened()[0], 1, "z")})
    assert state.room == 16


def test_the_window_is_given_back_when_a_ticket_ends() -> None:
    state, server = opened(window=2)
    submit(state)
    assert state.room == 1
    submit(state)
    assert state.room == 0
    run(state, server)
    assert state.room == 2


def test_an_error_is_raised_anew_each_time() -> None:
    state, server = opened()
    ticket = submit(state)
    send(state, server)
    server.fail(1, Code.NOT_FOUND, "no model 'm'", retryable=True)
    state.receive(server.frames()[0])
    raised = []
    for _ in range(2):
        with pytest.raises(NotFound, match="no model 'm'") as caught:
            ticket.outputs()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert raised[0].retryable


def test_fetch_release_cancel_are_sent_in_order() -> None:
    state, server = opened()
    a = submit(state, keep=["y", "z"])
    fetched = TicketState(None)
    state.fetch(fetched, a, "z", ((1, 3),))
    state.release(a, ["y"])
    state.release(a, [])
    state.release(a, [])
    state.cancel(a)
    state.cancel(a)
    send(state, server)
    assert kinds(server)[2:] == ["INFER", "FETCH", "RELEASE", "RELEASE", "CANCEL"]
    assert [list(command.release.outputs) for command in server.commands[4:6]] == [["y"], []]
    assert server.commands[3].tag == fetched.tag == 2


def test_what_has_ended_is_not_cancelled_and_what_failed_not_released() -> None:
    state, server = opened()
    a = submit(state, keep=["z"])
    run(state, server)
    b = submit(state, keep=["z"])
    send(state, server)
    server.fail(b.tag, Code.INTERNAL, "x")
    state.receive(server.frames()[0])
    sent = len(server.commands)
    state.cancel(a)
    state.release(b, [])
    assert state.next_message() is None
    assert len(server.commands) == sent


def test_kept_outputs_are_known_by_name() -> None:
    state, server = opened()
    ticket = submit(state, keep=["z"])
    ticket.check_kept("z")
    with pytest.raises(KeyError, match="'y'"):
        ticket.check_kept("y")
    with pytest.raises(KeyError, match="'y'"):
        state.release(ticket, ["y"])
    assert ticket.kept_spec("z") is None
    run(state, server)
    spec = ticket.kept_spec("z")
    assert spec is not None
    assert spec.shape == (4,)
    state.release(ticket, ["z"])
    with pytest.raises(KeyError, match="was released"):
        ticket.check_kept("z")


def test_draining_is_noted_and_the_stream_goes_on() -> None:
    state, server = opened()
    state.receive(message(pb.Event(kind=pb.Event.DRAINING, grace_us=1)))
    assert state.draining
    ticket = submit(state)
    assert run(state, server) == [ticket]


def test_tag_0_fails_all_that_is_in_flight_and_ends_the_stream() -> None:
    state, _ = opened()
    tickets = [submit(state), submit(state)]
    assert state.receive(message(failed(0, Code.INVALID_ARGUMENT, "what was that"))) == tickets
    for ticket in tickets:
        with pytest.raises(InvalidArgument, match="what was that"):
            ticket.outputs()
    with pytest.raises(Unavailable, match="has ended: what was that"):
        submit(state)
    assert state.next_message() is None
    assert state.receive(message(pb.Event(tag=1))) == []


def layout_event(number: int, shape: Sequence[int] = ()) -> pb.Event:
    layout = pb.Layout(sent=[pb.Tensor(name="y", datatype=pb.FP32, shape=shape)])
    return pb.Event(kind=pb.Event.LAYOUT, layout=number, define=layout)


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
    state, _ = opened()
    tickets = [submit(state), submit(state)]
    assert state.receive(data)[-1] is tickets[1]
    assert isinstance(state.error, Internal)
    assert not state.in_flight


def test_events_of_a_later_contract_are_ignored() -> None:
    state, _ = opened()
    assert state.receive(message(pb.Event(kind=99))) == []  # type: ignore[arg-type]
    assert state.error is None


def test_the_end_of_the_stream_is_the_end_of_all() -> None:
    state, _ = opened()
    tickets = [submit(state, keep=["z"]), submit(state)]
    assert state.end(Cancelled("left")) == tickets
    assert state.end(Internal("later")) == []
    with pytest.raises(Cancelled, match="left"):
        tickets[0].outputs()
    with pytest.raises(Unavailable, match="left"):
        state.fetch(TicketState(None), tickets[0], "z", ())
    state.cancel(tickets[0])
    state.release(tickets[0], [])
    assert state.next_message() is None


def test_a_closed_stream_takes_nothing_more_and_finishes() -> None:
    state, server = opened()
    submit(state)
    state.close()
    assert not state.finished
    with pytest.raises(Unavailable, match="was closed") as refused:
        submit(state)
    assert not refused.value.retryable
    assert run(state, server)
    assert state.finished


@pytest.mark.parametrize("error", [ValueError, HeadraceError, TypeError])
def test_what_cannot_be_submitted_changes_nothing(error: type[Exception]) -> None:
    state, server = opened()
    wrong: dict[type[Exception], dict[str, Any]] = {
        ValueError: {"timeout": float("nan")},
        HeadraceError: {"inputs": {"x": np.array([None])}},
        TypeError: {"outputs": "prob"},
    }
    with pytest.raises(error):
        submit(state, **wrong[error])
    ticket = submit(state)
    assert run(state, server) == [ticket]


def test_reprs_show_the_load() -> None:
    state, server = opened()
    ticket = submit(state, keep=["z"])
    assert repr(ticket) == "<TicketState 1 of model 'm': in flight>"
    assert "open, 1/16 in flight" in repr(state)
    run(state, server)
    assert repr(ticket) == "<TicketState 1 of model 'm': done in 0.006 ms, keeps 'z'>"
    state.end(Cancelled("x"))
    assert "ended, 0/16 in flight, 0 bytes unsent, 1 calls" in repr(state)
