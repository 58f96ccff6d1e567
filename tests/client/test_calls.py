from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.calls import Call, Calls, describe, signature
from headrace.client.inputs import Inputs, Reference, zeros
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument

Array = npt.NDArray[Any]
X = np.arange(4, dtype=np.float32)


def define(calls: Calls, inputs: Inputs, model: str = "m") -> tuple[Call, list[pb.Command]]:
    key, arrays, references = signature(model, None, inputs, ["y"], ())
    description = describe(model, None, inputs, ["y"])
    call, items = calls.define(key, description, arrays, len(references))
    return call, [pb.ClientFrame.FromString(item).commands[0] for item in items]


def parsed(
    call: Call,
    tag: int,
    arrays: Sequence[Array],
    references: Sequence[Reference] = (),
) -> pb.ClientFrame:
    item, cost = call.item(tag, list(arrays), references)
    assert len(item) <= cost
    return pb.ClientFrame.FromString(item)


@given(
    number=st.integers(1, 1024),
    tag=st.integers(1, 2**64 - 1),
    sources=st.lists(st.integers(1, 2**64 - 1), max_size=3),
    shapes=st.lists(st.integers(0, 40_000), max_size=3),
    timeout_us=st.integers(0, 2**63),
    priority=st.integers(0, 9),
)
def test_a_filled_template_is_the_command(
    number: int,
    tag: int,
    sources: list[int],
    shapes: list[int],
    timeout_us: int,
    priority: int,
) -> None:
    arrays = [np.full(size, ord("%"), np.uint16) for size in shapes]
    call = Call(number, pb.Call(model="m"), arrays, len(sources))
    call.set_options(timeout_us, priority)
    references = [Reference(None, source, "z") for source in sources]
    expected = pb.Command(
        tag=tag,
        call=number,
        tensors=len(arrays),
        timeout_us=timeout_us,
        priority=priority,
        sources=sources,
    )
    frame = parsed(call, tag, arrays, references)
    assert list(frame.commands) == [expected]
    assert list(frame.tensors) == [array.tobytes() for array in arrays]


@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.uint8, ml_dtypes.bfloat16])
def test_tensors_are_row_major_copies(dtype: type, size: int) -> None:
    array: Array = np.arange(2 * size).astype(dtype).reshape(2, size).T
    expected = array.tolist()
    call, _ = define(Calls(), {"x": array})
    item, _ = call.item(1, [array], ())
    array[:] = 1
    (data,) = pb.ClientFrame.FromString(item).tensors
    assert np.frombuffer(data, dtype).reshape(size, 2).tolist() == expected


def test_elements_that_are_no_strings_are_refused() -> None:
    array = np.array([None])
    call, _ = define(Calls(), {"x": array})
    with pytest.raises(InvalidArgument, match="NoneType"):
        call.item(1, [array], ())


def test_strings_may_have_any_size() -> None:
    x = np.array(["a", "bc"], object)
    call, _ = define(Calls(), {"x": x})
    frame = parsed(call, 1, [x])
    assert list(frame.tensors) == [b"\x01\0\0\0a\x02\0\0\0bc"]


def test_what_describes_a_call() -> None:
    inputs: Inputs = {"x": X, "u": Reference(None, 3, "z", take=True), "h": zeros((2, 1), np.int8)}
    call = describe("m", "2", inputs, None, ["z"])
    assert call == pb.Call(
        model="m",
        version="2",
        all_outputs=True,
        keep=["z"],
        inputs=[
            pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[4])),
            pb.Input(name="u", reference=pb.Reference(output="z", take=True)),
            pb.Input(name="h", zeros=pb.Zeros(datatype=pb.INT8, shape=[2, 1])),
        ],
    )
    assert describe("m", None, {}, []) == pb.Call(model="m")


def test_a_name_instead_of_a_list_of_names_is_refused() -> None:
    with pytest.raises(TypeError, match=r"outputs is a list of names.*\['prob'\]"):
        describe("m", None, {}, "prob")


@pytest.mark.parametrize(
    "other",
    [
        {"x": X[:2]},
        {"x": X.astype(np.int32)},
        {"w": X},
        {"x": Reference(None, 1, "z")},
        {"x": Reference(None, 1, "z", take=True)},
        {"x": zeros(4)},
        {"x": X, "w": X},
    ],
)
def test_different_inputs_are_different_calls(other: Inputs) -> None:
    assert signature("m", None, {"x": X}, None, ()) != signature("m", None, other, None, ())


def test_numbers_are_used_again_for_the_least_lately_used() -> None:
    calls = Calls(most=4)
    made = [define(calls, {f"x{i}": X})[0] for i in range(4)]
    assert [call.number for call in made] == [1, 2, 3, 4]
    for tag, call in enumerate([made[2], made[0], made[3], made[1]]):
        call.used = tag + 1
    call, commands = define(calls, {"new": X})
    assert call.number == 3
    assert [command.kind for command in commands] == [pb.Command.DEFINE]
    assert calls.get(signature("m", None, {"x2": X}, ["y"], ())[0]) is None
    assert len(calls) == 4


def test_descriptions_stay_within_their_bytes() -> None:
    """The server forgets nothing by itself: what is used no more is described as nothing."""
    calls, held = Calls(most=64, most_bytes=2000), dict[int, int]()
    for i in range(200):
        call, commands = define(calls, {"x": X}, model=f"{i:<{100 + i}}")
        call.used = i + 1
        for command in commands:
            held[command.call] = command.define.ByteSize()
            assert sum(held.values()) <= 2000
        assert commands[-1].call == call.number


def test_what_no_frame_can_describe_is_refused_and_costs_no_number() -> None:
    calls = Calls()
    with pytest.raises(InvalidArgument, match="takes 2000"):
        define(calls, {}, model="m" * 2_000_000)
    with pytest.raises(InvalidArgument, match="has 16385 inline inputs"):
        define(calls, {str(i): X for i in range(16385)})
    assert define(calls, {"x": X})[0].number == 1
