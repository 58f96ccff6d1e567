"""The bounds of a stream: bytes that wait, messages, calls, and what a result keeps alive."""

import numpy as np
import pytest

import headrace.client as hc
from headrace.client.protocol import stream_protocol
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import ResourceExhausted
from headrace.wire.frames import SCAN_FROM
from tests.client.protocol.test_stream_protocol import X, layout_event, opened, run, submit
from tests.client.protocol.tiny_server import TinyServer, message
from tests.client.scripted_server import ScriptedServer


def test_there_is_no_room_while_many_bytes_are_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_protocol, "UNSENT_BYTES", 1000)
    state, _ = opened()
    submit(state, {"x": np.zeros(1000, np.uint8)})
    assert state.room == 0
    while state.next_message() is not None:
        pass
    assert state.room == 15


def test_an_input_over_the_servers_largest_message_is_refused_here() -> None:
    state, server = opened(max_message_bytes=100_000)
    with pytest.raises(ResourceExhausted, match=r"'x' 100000, 'w' 16.*at most 100000") as refused:
        submit(state, {"x": np.zeros(100_000, np.uint8), "w": X})
    assert not refused.value.retryable
    with pytest.raises(ResourceExhausted):
        submit(state, {"x": np.array(["x" * 100_000])})
    assert state.room == 16
    submit(state, {"x": np.zeros(99_000, np.uint8)})
    run(state, server)


def test_an_input_is_refused_as_often_as_it_is_submitted() -> None:
    state, server = opened(max_message_bytes=1000)
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(ResourceExhausted, match=r"'x' 1000.*at most 1000"):
                submit(state, {"x": np.zeros(1000, np.uint8)})
        submit(state, {"x": np.zeros(800, np.uint8)})
    assert len(run(state, server)) == 2


def test_large_items_travel_alone() -> None:
    state, _ = opened(max_message_bytes=8 << 20)
    for _ in range(2):
        submit(state, {"x": np.zeros(3 << 20, np.uint8)})
        submit(state)
    sizes = []
    while (data := state.next_message()) is not None:
        sizes.append(len(pb.ClientFrame.FromString(data).tensors))
    assert sizes == [0, 1, 1, 1, 1]


def test_a_small_result_does_not_keep_a_large_message_alive() -> None:
    state, _ = opened()
    small, large = submit(state), submit(state)
    events = layout_event(1, [1]), layout_event(2, [SCAN_FROM])
    ends = pb.Event(tag=small.tag, layout=1), pb.Event(tag=large.tag, layout=2)
    state.receive(message(*events, *ends, tensors=[bytes(4), bytes(4 * SCAN_FROM)]))
    assert [type(ticket.tensors[0]) for ticket in (small, large)] == [bytes, memoryview]
    assert large.outputs()["y"].shape == (SCAN_FROM,)


def test_any_number_of_calls_within_the_numbers_of_a_stream() -> None:
    state, server = opened(window=64)
    tickets = []
    for i in range(1300):
        tickets.append(submit(state, {"x": np.full(i, i, np.float32), "w": np.float32(1)}))
        run(state, server)
    for i, ticket in enumerate(tickets):
        np.testing.assert_array_equal(ticket.outputs()["y"], np.full(i, i + 2))
    assert len(server.calls) == 1024
    # The first is long forgotten, the last is not.
    before = len(server.commands)
    submit(state, {"x": np.zeros(1299, np.float32), "w": np.float32(1)})
    submit(state, {"x": np.zeros(0, np.float32), "w": np.float32(1)})
    run(state, server)
    kinds = [command.kind for command in server.commands[before:]]
    assert kinds == [pb.Command.INFER, pb.Command.DEFINE, pb.Command.INFER]


async def test_messages_up_to_the_largest(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    server.tiny = TinyServer(max_message_bytes=64 << 20)
    async with client.stream() as stream:
        with pytest.raises(hc.ResourceExhausted, match="'x' 67108864"):
            await stream.submit("m", {"x": np.zeros(64 << 20, np.uint8)})
        ticket = await stream.submit("m", {"x": np.zeros((64 << 20) - 200, np.uint8)}, keep=["y"])
        with pytest.raises(hc.ResourceExhausted, match="fetch slices"):
            await ticket
        x = np.zeros((40 << 20), np.uint8)
        y = (await (await stream.submit("m", {"x": x}, outputs=["y"])))["y"]
        assert y.shape == x.shape
        assert y.all()
