"""The template of a call, filled in, is what protobuf writes."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.protocol.call import SMALL_BYTES, Call
from headrace.client.protocol.call_description import signature
from headrace.client.protocol.inputs import Inputs, Reference, zeros
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument
from tests.client.protocol.made_calls import X, made_call

Array = npt.NDArray[Any]


def parsed(
    call: Call,
    tag: int,
    arrays: Sequence[Array],
    references: Sequence[Reference] = (),
) -> pb.ClientFrame:
    item, cost = call.fill(tag, list(arrays), references)
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
    key, inline, referred, _ = signature(("m", None, (), (), ()), inputs)
    call = Call(number, key, pb.Call(model="m"), inputs)
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
    # The fast way gives the same, whatever the order of the inputs.
    shuffled = {name: inputs[name] for name in data.draw(st.permutations(list(inputs)))}
    small = sum(array.nbytes for array in arrays) <= SMALL_BYTES
    assert call.match_and_fill(tag, shuffled, None) == (call.fill(tag, inline, referred)[0] if small else None)


@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.uint8, ml_dtypes.bfloat16])
def test_tensors_are_row_major_copies(dtype: type, size: int) -> None:
    array: Array = np.arange(2 * size).astype(dtype).reshape(2, size).T
    expected = array.tolist()
    call = made_call({"x": array})
    item, _ = call.fill(1, [array], ())
    array[:] = 1
    (data,) = pb.ClientFrame.FromString(item).tensors
    assert np.frombuffer(data, dtype).reshape(size, 2).tolist() == expected


def test_elements_that_are_not_strings_are_refused() -> None:
    array = np.array([None])
    call = made_call({"x": array})
    with pytest.raises(InvalidArgument, match="NoneType"):
        call.fill(1, [array], ())


def test_strings_may_have_any_size() -> None:
    x = np.array(["a", "bc"], object)
    call = made_call({"x": x})
    frame = parsed(call, 1, [x])
    assert list(frame.tensors) == [b"\x01\0\0\0a\x02\0\0\0bc"]


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
        {"u": Reference(STREAM, 3, "z", take=True)[1:2]},
        {"u": X},
        {"h": zeros((1, 2), np.int8)},
        {"h": zeros((2, 1), np.uint8)},
        {"h": np.zeros((2, 1), np.int8)},
        {"w": X},
        {"x": None},
    ],
)
def test_inputs_that_do_not_plainly_match_are_not_filled_in(other: dict[str, Any]) -> None:
    call = made_call(INPUTS)
    assert call.match_and_fill(7, INPUTS, STREAM) == call.fill(7, [X], [Reference(STREAM, 3, "z")])[0]
    assert call.match_and_fill(7, {**INPUTS, **other}, STREAM) is None


def test_inputs_match_only_if_all_are_there() -> None:
    call = made_call(INPUTS)
    for name in INPUTS:
        rest = {other: value for other, value in INPUTS.items() if other != name}
        assert call.match_and_fill(7, rest, STREAM) is None
        assert call.match_and_fill(7, {**rest, "another": INPUTS[name]}, STREAM) is None


def test_strings_are_never_filled_in_the_fast_way() -> None:
    call = made_call({"x": np.array(["a"], object)})
    assert call.match_and_fill(7, {"x": np.array(["b"], object)}, STREAM) is None
