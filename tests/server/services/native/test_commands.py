"""A frame asks for a bounded amount of work, and what it asks for beyond that has no effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from headrace.server.core.calls import bind
from headrace.server.core.core import Core
from headrace.server.core.events import Failed
from headrace.server.core.limits import Limits
from headrace.server.core.state import Stream
from headrace.server.services.native import commands
from headrace.server.services.native.commands import apply_commands, to_call
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.limits import MAX_FRAME_NAMES, MAX_PORTS, MAX_SOURCE_SLICES, MAX_STRING_BYTES, MAX_STRINGS
from tests.interpreted import interpreted
from tests.server.core.model_specs import grow, model, port, step

T = TypeVar("T")
Command = pb.Command
X = pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[4]))


@pytest.fixture
def core() -> Core:
    core = Core(Limits())
    core.models.add(step())
    core.models.add(model("text", [port(0, "t", None, datatype=Datatype.BYTES)], []))
    return core


@pytest.fixture
def stream(core: Core) -> Stream:
    stream = core.open_stream()
    stream.take()
    return stream


def failures(core: Core, stream: Stream, *commands: pb.Command, tensors: Sequence[bytes] = ()) -> list[tuple[int, str]]:
    """The tags and messages of the Failed events that a frame leads to."""
    apply_commands(core, stream, 0.0, pb.ClientFrame(commands=commands, tensors=tensors).SerializeToString())
    return [(event.tag, event.error.message) for event in stream.take() if isinstance(event, Failed)]


def counted(function: Callable[..., T]) -> tuple[list[object], Callable[..., T]]:
    """A function that does the same, and what it is called with."""
    calls: list[object] = []

    def count(*arguments: object) -> T:
        calls.append(arguments)
        return function(*arguments)

    return calls, count


def define(number: int, **fields: object) -> pb.Command:
    return Command(kind=Command.DEFINE, call=number, define=pb.Call(model="step", **fields))  # type: ignore[arg-type]


def run(tag: int, number: int, tensors: int = 1) -> pb.Command:
    return Command(tag=tag, call=number, tensors=tensors)


@pytest.mark.parametrize("field", ["inputs", "outputs", "keep", "keep_inputs"])
def test_a_description_that_is_too_large_replaces_the_one_before_and_fails_when_it_is_used(
    core: Core, stream: Stream, field: str
) -> None:
    good = define(1, inputs=[X])
    assert failures(core, stream, good, run(1, 1), tensors=[bytes(16)]) == []
    many: dict[str, object] = {"inputs": [X], field: ([X] if field == "inputs" else ["y"]) * (MAX_PORTS + 1)}
    assert failures(core, stream, define(1, **many), run(2, 1), tensors=[bytes(16)]) == [
        (2, f"the call names {MAX_PORTS + 1} {field}; the limit is {MAX_PORTS}")
    ]
    assert failures(core, stream, good, run(3, 1), tensors=[bytes(16)]) == []


@interpreted
def test_the_definitions_of_a_frame_are_bounded_together(
    core: Core, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted, to_input = counted(commands._to_input)
    monkeypatch.setattr(commands, "_to_input", to_input)
    calls = [define(number, inputs=[X] * 1000) for number in range(1, 9)]
    (failed,) = failures(core, stream, *calls, run(1, 8, 0))
    assert failed == (
        1,
        f"up to here the frame names 8000 inputs, outputs and slices; the limit is {MAX_FRAME_NAMES}",
    )
    assert len(converted) == 4000
    assert failures(core, stream, define(8, inputs=[X]), run(2, 8), tensors=[bytes(16)]) == []


def test_a_shape_with_too_many_dimensions_is_not_converted() -> None:
    deep = pb.Input(name="x", zeros=pb.Zeros(datatype=pb.FP32, shape=[1] * 100_000))
    call = to_call(pb.Call(model="step", inputs=[deep]))
    assert (call.inputs, call.refusal) == ((), "input 'x': a shape has 100000 dimensions; the limit is 32")


def test_fetches_and_releases_are_bounded(core: Core, stream: Stream) -> None:
    fetch = Command(kind=Command.FETCH, tag=5, fetch=pb.Fetch(source=1, output="y", slices=[pb.Slice()] * 1000))
    kept = define(1, inputs=[X], keep=["y"])
    assert failures(core, stream, kept, run(1, 1), fetch, tensors=[bytes(16)]) == [
        (5, "the Fetch has more than 32 slices, but a tensor has at most 32 dimensions")
    ]
    release = Command(kind=Command.RELEASE, tag=1, release=pb.Release(outputs=["y"] * (MAX_FRAME_NAMES + 1)))
    fetch.fetch.ClearField("slices")
    too_many = f"up to here the frame names {MAX_FRAME_NAMES + 1} inputs, outputs and slices; the limit is "
    assert failures(core, stream, release) == [(0, too_many + str(MAX_FRAME_NAMES))]
    assert failures(core, stream, *[fetch] * 2)[0][0] == 0, "the source is still kept, so the first one waits for it"


def test_the_strings_of_a_message_are_bounded_together(core: Core, stream: Stream) -> None:
    half = MAX_STRINGS // 2

    def text(number: int, count: int) -> pb.Command:
        source = pb.Input(name="t", inline=pb.Inline(datatype=pb.BYTES, shape=[count]))
        return Command(kind=Command.DEFINE, call=number, define=pb.Call(model="text", inputs=[source]))

    strings, one = bytes(4 * half), bytes(4)
    frame = (text(1, half), text(2, 1), run(1, 1), run(2, 1), run(3, 2), run(4, 1))
    failed = failures(core, stream, *frame, tensors=[strings, strings, one, strings])
    assert [tag for tag, _ in failed] == [3, 4]
    assert f"holds {MAX_STRINGS + 1} elements of BYTES; the limit is {MAX_STRINGS}" in failed[0][1]
    assert failures(core, stream, run(5, 2), tensors=[one]) == []
    large = (MAX_STRING_BYTES - 3).to_bytes(4, "little") + bytes(MAX_STRING_BYTES - 3)
    ((tag, message),) = failures(core, stream, run(6, 2), tensors=[large])
    assert tag == 6
    assert f"holds {MAX_STRING_BYTES + 1} bytes of BYTES" in message


@interpreted
def test_a_call_that_does_not_fit_its_model_is_checked_once(
    core: Core, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, count = counted(bind)
    monkeypatch.setattr("headrace.server.core.models.bind", count)
    wrong = define(1, inputs=[pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[5]))])
    failed = failures(core, stream, wrong, *[run(tag, 1, 0) for tag in range(1, 11)])
    assert len({message for _, message in failed}) == 1
    assert len(failed) == 10
    assert len(checked) == 1
    core.models.add(step())
    failures(core, stream, run(11, 1, 0))
    assert len(checked) == 2, "another model may take it"


def test_the_slices_of_a_frames_infers_are_bounded_together(core: Core, stream: Stream) -> None:
    core.models.add(grow())
    source = define(1, inputs=[X], keep=["z"])
    taking = pb.Call(model="grow", inputs=[pb.Input(name="x", reference=pb.Reference(output="z"))])
    define_taking = Command(kind=Command.DEFINE, call=2, define=taking)

    def take(tag: int, *counts: int) -> pb.Command:
        slices = [pb.SourceSlices(slices=[pb.Slice(stop=1)] * count) for count in counts]
        return Command(kind=Command.INFER_SLICES, tag=tag, call=2, sources=[1], slices=slices)

    assert failures(core, stream, source, define_taking, run(1, 1), tensors=[bytes(16)]) == []
    bounded = f"the Infers of the message have more than {MAX_SOURCE_SLICES} slices of sources; send them in several"
    failed = dict(failures(core, stream, take(2, 1), take(3, 2), take(4, 100_000), take(5, 1, 1), take(6, *[0] * 5000)))
    assert failed == {
        3: "input 'x' takes the slice [0:1, 0:1] of output 'z' of ticket 1: 2 slices for a tensor of 1 dimensions",
        4: "the Infer has more than 32 slices of a source, which is more than it has axes",
        5: "the Infer has 1 sources, but slices for 2",
        6: f"{bounded} messages",
    }
    frames = [take(tag, *[40] * 124) for tag in range(10, 12)]
    assert [message.startswith(bounded) for _, message in failures(core, stream, *frames)] == [False, True]
    assert failures(core, stream, take(20, 1)) == [], "they do not count for the next frame"
