"""The limits of a stream: unsent bytes, sizes of messages, numbers of calls, and memory that a result keeps alive."""

import numpy as np
import pytest

from headrace.client.protocol import stream_protocol
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import ResourceExhausted, Unavailable
from headrace.wire.frames import SCAN_FROM
from tests.client.protocol.pure_streams import X, layout_event, opened, run, send, submit
from tests.client.protocol.tiny_server import message


def test_the_window_is_full_while_many_bytes_are_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_protocol, "MAX_UNSENT_BYTES", 1000)
    stream, _ = opened()
    submit(stream, {"x": np.zeros(1000, np.uint8)})
    assert stream.free_window == 0
    while stream.next_message() is not None:
        pass
    assert stream.free_window == 15


def test_the_window_is_full_while_the_server_has_as_many_inputs_as_it_wants() -> None:
    stream, server = opened(queue_bytes=1000)
    large = {"x": np.zeros(600, np.uint8)}
    submit(stream, large)
    assert stream.free_window > 0
    cancelled = submit(stream, large)
    assert stream.free_window == 0
    send(stream, server)
    assert stream.free_window == 0
    stream.cancel(cancelled)
    send(stream, server)
    for frame in server.frames():
        stream.receive(frame)
    assert stream.free_window > 0
    assert 600 < stream.input_bytes < 1000
    run(stream, server)
    assert stream.input_bytes == 0
    submit(stream, {"x": np.zeros(5000, np.uint8)})  # one always fits
    assert stream.free_window == 0
    stream.end(Unavailable("gone"))
    assert stream.input_bytes == 0


def test_a_server_that_does_not_say_so_takes_any_number_of_inputs() -> None:
    stream, _ = opened(max_message_bytes=8 << 20)
    for _ in range(8):
        submit(stream, {"x": np.zeros(7 << 20, np.uint8)})
    assert stream.free_window == 8


def test_an_input_over_the_servers_largest_message_is_refused_by_the_client() -> None:
    stream, server = opened(max_message_bytes=100_000)
    with pytest.raises(ResourceExhausted, match=r"'x' 100000, 'w' 16.*at most 100000") as refused:
        submit(stream, {"x": np.zeros(100_000, np.uint8), "w": X})
    assert not refused.value.retryable
    with pytest.raises(ResourceExhausted):
        submit(stream, {"x": np.array(["x" * 100_000])})
    assert stream.free_window == 16
    submit(stream, {"x": np.zeros(99_000, np.uint8)})
    run(stream, server)


def test_an_input_that_is_too_large_is_refused_each_time() -> None:
    stream, server = opened(max_message_bytes=1000)
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(ResourceExhausted, match=r"'x' 1000.*at most 1000"):
                submit(stream, {"x": np.zeros(1000, np.uint8)})
        submit(stream, {"x": np.zeros(800, np.uint8)})
    assert len(run(stream, server)) == 2


def test_large_items_travel_alone() -> None:
    stream, _ = opened(max_message_bytes=8 << 20)
    for _ in range(2):
        submit(stream, {"x": np.zeros(3 << 20, np.uint8)})
        submit(stream)
    sizes = []
    while (data := stream.next_message()) is not None:
        sizes.append(len(pb.ClientFrame.FromString(data).tensors))
    assert sizes == [0, 1, 1, 1, 1]


def test_a_small_result_does_not_keep_a_large_message_alive() -> None:
    stream, _ = opened()
    small, large = submit(stream), submit(stream)
    events = layout_event(1, [1]), layout_event(2, [SCAN_FROM])
    ends = pb.Event(tag=small.tag, layout=1), pb.Event(tag=large.tag, layout=2)
    stream.receive(message(*events, *ends, tensors=[bytes(4), bytes(4 * SCAN_FROM)]))
    assert [type(ticket.tensors[0]) for ticket in (small, large)] == [bytes, memoryview]
    assert large.outputs()["y"].shape == (SCAN_FROM,)


def test_any_number_of_calls_share_the_numbers_of_a_stream() -> None:
    stream, server = opened(window=64)
    tickets = []
    for i in range(1300):
        tickets.append(submit(stream, {"x": np.full(i, i, np.float32), "w": np.float32(1)}))
        run(stream, server)
    for i, ticket in enumerate(tickets):
        np.testing.assert_array_equal(ticket.outputs()["y"], np.full(i, i + 2))
    assert len(server.calls) == 1024
    # The first call was evicted long ago, the last was not.
    before = len(server.commands)
    submit(stream, {"x": np.zeros(1299, np.float32), "w": np.float32(1)})
    submit(stream, {"x": np.zeros(0, np.float32), "w": np.float32(1)})
    run(stream, server)
    kinds = [command.kind for command in server.commands[before:]]
    assert kinds == [pb.Command.INFER, pb.Command.DEFINE, pb.Command.INFER]
