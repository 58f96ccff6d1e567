from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.protocol.call import SMALL_BYTES, Call
from headrace.client.protocol.calls import Calls, Key, describe, signature
from headrace.client.protocol.inputs import Inputs, Reference, normalised, zeros
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument

Array = npt.NDArray[Any]
X = np.arange(4, dtype=np.float32)


def key_of(inputs: Inputs, model: str = "m") -> Key:
    return signature((model, None, ("y",), ()), inputs)[0]


def define(calls: Calls, inputs: Inputs, model: str = "m") -> tuple[Call, list[pb.Command]]:
    description = describe(model, None, inputs, ["y"])
    call, items = calls.define(key_of(inputs, model), description, normalised(inputs))
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
    timeout=st.none() | st.integers(1, 2**40),
    priority=st.integers(0, 9),
    data=st.data(),
)
def test_a_filled_template_is_the_command(
    number: int,
    tag: int,
    sources: list[int],
    shapes: list[int],
    timeout: int | None,
    priority: int,
    data: st.DataObject,
) -> None:
    references = [Reference(None, source, "z") for source in sources]
    arrays = [np.full(size, ord("%"), np.uint16) for size in shapes]
    values: list[Any] = [*references, *arrays, zeros(3)]
    inputs = {f"input {at}": values[at] for at in data.draw(st.permutations(range(len(values))))}
    _, inline, referred = signature(("m", None, (), ()), inputs)
    call = Call(number, pb.Call(model="m"), inputs)
    call.set_options(None if timeout is None else timeout / 1e6, priority)
    expected = pb.Command(
        tag=tag,
        call=number,
        tensors=len(arrays),
        timeout_us=timeout or 0,
        priority=priority,
        sources=[reference.tag for reference in referred],
    )
    frame = parsed(call, tag, inline, referred)
    assert list(frame.commands) == [expected]
    assert list(frame.tensors) == [array.tobytes() for array in inline]
    # The short way is the same, whatever the order of the inputs.
    shuffled = {name: inputs[name] for name in data.draw(st.permutations(list(inputs)))}
    small = sum(array.nbytes for array in arrays) <= SMALL_BYTES
    assert call.repeat(tag, shuffled, None) == (call.item(tag, inline, referred)[0] if small else None)


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
    assert key_of({"x": X}) != key_of(other)


STREAM = object()
INPUTS: Inputs = {"x": X, "u": Reference(STREAM, 3, "z", take=True), "h": zeros((2, 1), np.int8)}


@pytest.mark.parametrize(
    "other",
    [
        {"x": X[:2]},
        {"x": X.reshape(2, 2)},
        {"x": X.astype(np.int32)},
        {"x": X.astype(">f4")},
        {"x": X.tolist()},
        {"x": np.array(["a", "b", "c", "d"])},
        {"x": np.ma.masked_array(X)},
        {"x": zeros(4)},
        {"x": Reference(STREAM, 3, "z")},
        {"u": Reference(STREAM, 3, "z")},
        {"u": Reference(STREAM, 3, "w", take=True)},
        {"u": Reference(object(), 3, "z", take=True)},
        {"u": X},
        {"h": zeros((1, 2), np.int8)},
        {"h": zeros((2, 1), np.uint8)},
        {"h": np.zeros((2, 1), np.int8)},
        {"w": X},
        {"x": None},
    ],
)
def test_what_is_not_plainly_the_same_is_no_repetition(other: dict[str, Any]) -> None:
    call, _ = define(Calls(), INPUTS)
    assert call.repeat(7, INPUTS, STREAM) == call.item(7, [X], [Reference(STREAM, 3, "z")])[0]
    assert call.repeat(7, {**INPUTS, **other}, STREAM) is None


def test_a_repetition_has_all_inputs() -> None:
    call, _ = define(Calls(), INPUTS)
    for name in INPUTS:
        rest = {other: value for other, value in INPUTS.items() if other != name}
        assert call.repeat(7, rest, STREAM) is None
        assert call.repeat(7, {**rest, "another": INPUTS[name]}, STREAM) is None


def test_strings_are_no_repetition() -> None:
    call, _ = define(Calls(), {"x": np.array(["a"], object)})
    assert call.repeat(7, {"x": np.array(["b"], object)}, STREAM) is None


def test_the_latest_call_for_names_is_the_one_that_was_asked_for() -> None:
    calls = Calls()
    keys = [key_of({"x": x}) for x in (X, X[:2])]
    one, two = [define(calls, {"x": x})[0] for x in (X, X[:2])]
    other, _ = define(calls, {"x": X}, model="n")
    assert calls.latest[keys[0][0]] is two
    assert calls.get(keys[0]) is one
    assert list(calls.latest.values()) == [one, other]


def test_a_call_that_is_forgotten_is_not_the_latest() -> None:
    calls = Calls(most=16)
    made = [define(calls, {"x": np.zeros(size, np.float32)})[0] for size in range(16)]
    keys = [key_of({"x": np.zeros(size, np.float32)}) for size in range(16)]
    for tag, call in enumerate(made):
        call.used = tag + 1
    # As one that was looked up, but refused by then, the oldest is the latest. Two are forgotten.
    assert calls.get(keys[0]) is made[0]
    calls._forget()
    assert not calls.latest
    # As long as one of the others is, nothing changes.
    assert calls.get(keys[5]) is made[5]
    calls._forget()
    assert list(calls.latest.values()) == [made[5]]
    assert calls.get(keys[3]) is None


def test_numbers_are_used_again_for_the_least_lately_used() -> None:
    calls = Calls(most=4)
    made = [define(calls, {f"x{i}": X})[0] for i in range(4)]
    assert [call.number for call in made] == [1, 2, 3, 4]
    for tag, call in enumerate([made[2], made[0], made[3], made[1]]):
        call.used = tag + 1
    call, commands = define(calls, {"new": X})
    assert call.number == 3
    assert [command.kind for command in commands] == [pb.Command.DEFINE]
    assert calls.get(key_of({"x2": X})) is None
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
