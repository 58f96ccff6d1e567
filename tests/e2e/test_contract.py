"""The contract as another language sees it: generated stubs alone, every kind of command, and everything malformed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.serving import Serve, Served
from tests.e2e.stubs import Command, Event, StubStream

pytestmark = pytest.mark.transport

X = np.arange(16, dtype=np.float32).reshape(1, 16)
ONES = np.ones((1, 16), np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("contract")
    model = models.add_multiply(folder)
    with Served([f"am={model}", "--window=16", "--property=INFERENCE_PRECISION_HINT=f32"], folder / "log") as served:
        yield served


@pytest.fixture
def stream(served: Served) -> Iterator[StubStream]:
    with StubStream(served.address) as stream:
        yield stream


def tensor(name: str, shape: tuple[int, ...] = (1, 16), datatype: pb.Datatype.ValueType = pb.FP32) -> pb.Input:
    return pb.Input(name=name, inline=pb.Inline(datatype=datatype, shape=shape))


def reference(name: str, output: str, *, take: bool = False) -> pb.Input:
    return pb.Input(name=name, reference=pb.Reference(output=output, take=take))


def define(number: int, *inputs: pb.Input, outputs: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> pb.Command:
    call = pb.Call(model="am", inputs=inputs, outputs=outputs, keep=keep)
    return Command(kind=Command.DEFINE, call=number, define=call)


def good(stream: StubStream, tag: int) -> None:
    """The stream is alive: an Infer on it gives the right numbers."""
    stream.send(
        define(900, tensor("x"), tensor("y"), outputs=("sum",)),
        Command(tag=tag, call=900, tensors=2),
        tensors=[X.tobytes(), ONES.tobytes()],
    )
    event, outputs = stream.receive()
    assert (event.kind, event.tag) == (Event.DONE, tag)
    np.testing.assert_array_equal(outputs["sum"], X + 1)


def failure(stream: StubStream, tag: int, code: pb.Code.ValueType, *named: str) -> pb.Failure:
    """The next event is a Failed of this tag and code, whose message names all of this and nothing it must not."""
    event, _ = stream.receive()
    assert (event.kind, event.tag, event.failure.code) == (Event.FAILED, tag, code), event
    for name in named:
        assert name in event.failure.message
    for private in ("Traceback", "Exception", "Error:", "/home", ".py", "/tmp"):
        assert private not in event.failure.message
    return event.failure


def test_the_server_speaks_first(stream: StubStream) -> None:
    assert stream.hello.window == 16
    assert stream.hello.max_message_bytes == 64 << 20
    assert stream.hello.keep_bytes == 256 << 20
    assert stream.hello.keep_us == 300_000_000
    assert stream.hello.version


def test_infer_keep_chain_and_fetch_may_share_one_frame(stream: StubStream) -> None:
    stream.send(
        define(1, tensor("x"), tensor("y"), outputs=("sum",), keep=("product",)),
        define(2, reference("x", "product", take=True), tensor("y"), outputs=("product", "sum"), keep=("sum",)),
        Command(tag=7, call=1, tensors=2),
        Command(tag=8, call=2, tensors=1, sources=[7]),
        Command(
            kind=Command.FETCH,
            tag=9,
            fetch=pb.Fetch(source=8, output="sum", slices=[pb.Slice(start=0, stop=1), pb.Slice(start=2, stop=5)]),
        ),
        tensors=[X.tobytes(), (2 * ONES).tobytes(), (3 * ONES).tobytes()],
    )
    first, outputs = stream.receive()
    assert (first.kind, first.tag) == (Event.DONE, 7)
    np.testing.assert_array_equal(outputs["sum"], X + 2)
    assert list(outputs) == ["sum"]
    layout = stream.layouts[first.layout]
    assert [kept.name for kept in layout.kept] == []  # taken before it was done
    assert layout.version == "1"
    assert layout.fingerprint  # of the model's files
    second, outputs = stream.receive()
    assert (second.kind, second.tag) == (Event.DONE, 8)
    assert list(outputs) == ["product", "sum"]
    np.testing.assert_array_equal(outputs["product"], X * 2 * 3)
    fetched, outputs = stream.receive()
    assert (fetched.kind, fetched.tag) == (Event.FETCHED, 9)
    np.testing.assert_array_equal(outputs["sum"], (X * 2 + 3)[0:1, 2:5])
    # Tag 7 keeps nothing any more, so that it may be used again; tag 8 is live until its output is released.
    good(stream, 7)
    stream.send(Command(tag=8, call=1, tensors=2), tensors=[X.tobytes(), X.tobytes()])
    failure(stream, 0, pb.INVALID_ARGUMENT, "tag 8")
    stream.send(Command(kind=Command.RELEASE, tag=8))
    good(stream, 8)


def test_inputs_of_zeros_are_not_sent(stream: StubStream) -> None:
    zeros = pb.Input(name="y", zeros=pb.Zeros(datatype=pb.FP32, shape=[1, 16]))
    stream.send(
        define(1, tensor("x"), zeros, outputs=("sum", "product")),
        Command(tag=1, call=1, tensors=1),
        tensors=[X.tobytes()],
    )
    _, outputs = stream.receive()
    np.testing.assert_array_equal(outputs["sum"], X)
    np.testing.assert_array_equal(outputs["product"], 0 * X)


def test_half_close_finishes_what_is_in_flight(served: Served) -> None:
    with StubStream(served.address) as stream:
        stream.send(
            define(1, tensor("x"), tensor("y"), keep=("sum",)),
            define(2, reference("x", "sum"), tensor("y"), outputs=("sum",)),
            Command(tag=1, call=1, tensors=2),
            Command(tag=2, call=2, tensors=1, sources=[1]),
            tensors=[X.tobytes(), ONES.tobytes(), ONES.tobytes()],
        )
        stream.half_close()
        (first, _), (second, outputs) = stream.events
        assert (first.tag, second.tag) == (1, 2)
        np.testing.assert_array_equal(outputs["sum"], X + 2)
        assert stream.replies.code() is grpc.StatusCode.OK


TWO = [tensor("x"), tensor("y")]
CONTENT = [
    ((tensor("x"),), [X], pb.INVALID_ARGUMENT, "'y'"),
    ((tensor("x"), tensor("y"), tensor("z")), [X, X, X], pb.INVALID_ARGUMENT, "'z'"),
    ((tensor("x"), tensor("x")), [X, X], pb.INVALID_ARGUMENT, "'x'"),
    ((tensor("x", datatype=pb.FP64), tensor("y")), [X, X], pb.INVALID_ARGUMENT, "FP64"),
    ((tensor("x", datatype=pb.Datatype.ValueType(77)), tensor("y")), [X, X], pb.INVALID_ARGUMENT, "77"),
    ((tensor("x", (16,)), tensor("y")), [X, X], pb.INVALID_ARGUMENT, "[16]"),
    ((tensor("x", (1, 15)), tensor("y")), [X[:, 1:], X], pb.INVALID_ARGUMENT, "[1, 15]"),
    ((tensor("x"), tensor("y")), [X[:, 1:], X], pb.INVALID_ARGUMENT, "60 bytes"),
    ((tensor("x"), tensor("y")), [X], pb.INVALID_ARGUMENT, "1 tensors"),
    ((tensor("x", (-1, 16)), tensor("y")), [X, X], pb.INVALID_ARGUMENT, "-1"),
    ((tensor("x", (2**62, 16)), tensor("y")), [X, X], pb.INVALID_ARGUMENT, "overflow"),
    ((tensor("x", (1,) * 100), tensor("y")), [X, X], pb.INVALID_ARGUMENT, "100 dimensions"),
    ((reference("x", "sum"), tensor("y")), [X], pb.INVALID_ARGUMENT, "0 sources"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "arrays", "code", "named"), CONTENT, ids=[case[3] for case in CONTENT])
def test_bad_inputs_fail(
    stream: StubStream,
    inputs: tuple[pb.Input, ...],
    arrays: list[npt.NDArray[Any]],
    code: pb.Code.ValueType,
    named: str,
) -> None:
    data = [array.tobytes() for array in arrays]
    stream.send(define(1, *inputs, outputs=("sum",)), Command(tag=5, call=1, tensors=len(data)), tensors=data)
    assert not failure(stream, 5, code, named).retryable
    good(stream, 5)


@pytest.mark.parametrize(
    ("call", "code", "named"),
    [
        (pb.Call(model="nope"), pb.NOT_FOUND, "'nope'"),
        (pb.Call(model="am", version="7"), pb.NOT_FOUND, "'7'"),
        (pb.Call(model="am", inputs=TWO, outputs=["nope"]), pb.NOT_FOUND, "'nope'"),
        (pb.Call(model="am", inputs=TWO, keep=["nope"]), pb.NOT_FOUND, "'nope'"),
        (pb.Call(model="am", inputs=TWO, outputs=["sum"] * 2), pb.INVALID_ARGUMENT, "'sum'"),
        (pb.Call(model="am", inputs=TWO, outputs=["sum"], all_outputs=True), pb.INVALID_ARGUMENT, "'sum'"),
        (pb.Call(model="am" * 5000), pb.NOT_FOUND, "'amam"),
        (pb.Call(model="../../etc/passwd"), pb.NOT_FOUND, "'../../etc/passwd'"),
        (pb.Call(model="a\0b"), pb.NOT_FOUND, r"'a\x00b'"),
        (pb.Call(model="am", inputs=[tensor("x")] * 2000), pb.INVALID_ARGUMENT, "2000 inputs"),
    ],
)  # fmt: skip
def test_bad_calls_fail(stream: StubStream, call: pb.Call, code: pb.Code.ValueType, named: str) -> None:
    data = [X.tobytes()] * 2
    stream.send(Command(kind=Command.DEFINE, call=1, define=call), Command(tag=5, call=1, tensors=2), tensors=data)
    assert len(failure(stream, 5, code, named).message) < 600
    good(stream, 5)


@pytest.mark.parametrize(
    ("command", "tag", "code", "named"),
    [
        (Command(tag=0, call=1), 0, pb.INVALID_ARGUMENT, "tag must not be 0"),
        (Command(), 0, pb.INVALID_ARGUMENT, "tag must not be 0"),
        (Command(tag=3, call=77), 3, pb.INVALID_ARGUMENT, "call 77"),
        (Command(tag=3, call=1, priority=10), 3, pb.INVALID_ARGUMENT, "priority 10"),
        (Command(tag=3, call=1, sources=[4]), 3, pb.INVALID_ARGUMENT, "1 sources"),
        (Command(tag=3, call=2, sources=[99]), 3, pb.FAILED_PRECONDITION, "ticket 99"),
        (Command(tag=3, call=2, sources=[3]), 3, pb.FAILED_PRECONDITION, "ticket 3"),
        (Command(kind=Command.FETCH, tag=3, fetch=pb.Fetch(source=99, output="sum")), 3, pb.NOT_FOUND, "ticket 99"),
        (Command(kind=Command.FETCH, fetch=pb.Fetch(source=99, output="sum")), 0, pb.INVALID_ARGUMENT, "tag must"),
        (Command(kind=Command.OPEN, open=pb.Open(ordered=True)), 0, pb.INVALID_ARGUMENT, "first command"),
        (Command(kind=Command.DEFINE, define=pb.Call(model="am")), 0, pb.INVALID_ARGUMENT, "number 0"),
        (Command(kind=Command.Kind.ValueType(99), tag=3), 0, pb.UNIMPLEMENTED, "99"),
    ],
)
def test_bad_commands_are_rejected_with_tag_zero(
    stream: StubStream, command: pb.Command, tag: int, code: pb.Code.ValueType, named: str
) -> None:
    zeros = [pb.Input(name=name, zeros=pb.Zeros(datatype=pb.FP32, shape=[1, 16])) for name in "xy"]
    stream.send(define(1, *zeros), define(2, reference("x", "sum"), zeros[1]), command)
    failure(stream, tag, code, named)
    good(stream, 3)


def test_release_and_cancel_of_what_is_not_there_are_ignored(stream: StubStream) -> None:
    stream.send(
        Command(kind=Command.RELEASE, tag=1),
        Command(kind=Command.RELEASE, tag=1, release=pb.Release(outputs=["nope"])),
        Command(kind=Command.CANCEL, tag=1),
    )
    good(stream, 1)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (b"\xff" * 100, "100 bytes is not a frame"),
        (b"\x0a\xff\xff\xff\xff\x0fabc", "not a frame"),
        (b"\x0a\x00" * 1025, "1024"),
        (b"\x0a\x00" * (4 << 20), "1024"),
        (b"\x12\x00" * 20_000, "16384"),
        (b"\x12\x00" * (1 << 20), "16384"),
        (pb.ClientFrame(tensors=[b"abc"]).SerializeToString(), "tensors that no Infer uses"),
        (b"\x1a\x83\x80\x40" + b"a" * ((1 << 20) + 3), "besides its tensors"),
    ],
)
def test_bytes_that_are_not_a_frame_are_rejected_and_the_stream_lives_on(
    served: Served, message: bytes, named: str
) -> None:
    with grpc.insecure_channel(served.address) as channel:
        before = served.resident_bytes()
        raw: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/headrace.v1.Inference/Stream")
        inputs = define(1, tensor("x"), tensor("y"), outputs=("sum",))
        frame = pb.ClientFrame(commands=[inputs, Command(tag=1, call=1, tensors=2)], tensors=[X.tobytes()] * 2)
        replies = raw(iter([message] * 5 + [frame.SerializeToString()]), timeout=30)
        events = [event for reply in replies for event in pb.ServerFrame.FromString(reply).events]
        assert [event.kind for event in events[:6]] == [Event.HELLO] + [Event.FAILED] * 5
        for event in events[1:6]:
            assert (event.tag, event.failure.code) == (0, pb.INVALID_ARGUMENT)
            assert named in event.failure.message
        assert [event.kind for event in events[6:]] == [Event.LAYOUT, Event.DONE]
        assert served.resident_bytes() - before < 64 << 20


def test_an_infer_over_the_window_is_refused_without_any_effect(stream: StubStream) -> None:
    """All in one frame, so that none of them has ended when the last is read."""
    stream.send(
        define(1, tensor("x"), tensor("y"), outputs=("sum",), keep=("sum",)),
        define(2, reference("x", "sum", take=True), tensor("y"), outputs=("sum",)),
        *[Command(tag=tag, call=1, tensors=2) for tag in range(1, 17)],
        Command(tag=17, call=2, tensors=1, sources=[1]),
        tensors=[X.tobytes()] * 33,
    )
    refused = failure(stream, 17, pb.RESOURCE_EXHAUSTED, "16")
    assert refused.retryable
    assert sorted(stream.receive()[0].tag for _ in range(16)) == list(range(1, 17))
    # The refused one has taken nothing: the same command succeeds now.
    stream.send(Command(tag=17, call=2, tensors=1, sources=[1]), tensors=[X.tobytes()])
    event, outputs = stream.receive()
    assert (event.kind, event.tag) == (Event.DONE, 17)
    np.testing.assert_array_equal(outputs["sum"], X * 3)


def test_an_event_over_the_largest_message_of_the_client_fails(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"wide={models.wide(tmp_path)}")
    with StubStream(served.address) as stream:
        stream.send(
            Command(kind=Command.DEFINE, call=1, define=pb.Call(model="wide", inputs=[tensor("x")], all_outputs=True)),
            Command(tag=1, call=1, tensors=1),
            tensors=[X.tobytes()],
        )
        refused = failure(stream, 1, pb.RESOURCE_EXHAUSTED, "keep it and fetch slices", str(4 << 20))
        assert not refused.retryable
