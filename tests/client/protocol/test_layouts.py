"""Layouts turn the bytes of an event into arrays."""

import ml_dtypes
import numpy as np
import pytest

from headrace.client.protocol.layouts import EMPTY, Layout, TensorSpec
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Internal, InvalidArgument


def tensor(name: str, datatype: pb.Datatype.ValueType, *shape: int) -> pb.Tensor:
    return pb.Tensor(name=name, datatype=datatype, shape=shape)


LAYOUT = Layout(
    sent=[tensor("y", pb.FP32, 2), tensor("s", pb.BYTES, 1), tensor("b", pb.BF16)],
    kept=[tensor("z", pb.INT8, 3), tensor("w", pb.INT8)],
)
DATA = [np.array([1, 2], np.float32).tobytes(), b"\x02\0\0\0hi", b"\x80\x3f"]


def test_arrays_have_the_names_of_the_server_by_default() -> None:
    arrays = LAYOUT.arrays(None, DATA)
    assert list(arrays) == ["y", "s", "b"]
    np.testing.assert_array_equal(arrays["y"], [1, 2])
    assert arrays["s"].tolist() == [b"hi"]
    assert arrays["b"].dtype == ml_dtypes.bfloat16
    assert arrays["b"] == 1


def test_arrays_have_the_requested_names() -> None:
    assert list(LAYOUT.arrays(("why", "es", "be"), DATA)) == ["why", "es", "be"]


def test_arrays_are_read_only_views() -> None:
    arrays = LAYOUT.arrays(None, DATA)
    assert not any(array.flags.writeable for array in arrays.values())
    assert arrays["y"].ctypes.data == np.frombuffer(DATA[0], np.uint8).ctypes.data


def test_tensors_and_layouts_may_be_empty() -> None:
    assert TensorSpec(tensor("y", pb.FP32, 0, 3)).array(b"").shape == (0, 3)
    assert EMPTY.arrays((), ()) == {}


@pytest.mark.parametrize(
    ("spec", "data"),
    [(tensor("y", pb.FP32, 2), b"1234567"), (tensor("y", pb.BYTES, 2), b"\x09\0\0\0hi")],
)
def test_bytes_that_do_not_match_are_an_internal_error(spec: pb.Tensor, data: bytes) -> None:
    with pytest.raises(Internal, match="output 'y'"):
        TensorSpec(spec).array(data)


@pytest.mark.parametrize("spec", [tensor("y", pb.FP32, -1), tensor("y", pb.DATATYPE_UNSPECIFIED)])
def test_an_impossible_tensor_is_refused(spec: pb.Tensor) -> None:
    with pytest.raises(InvalidArgument):
        TensorSpec(spec)


def test_kept_outputs_are_found_by_the_names_of_the_call() -> None:
    def name(asked: str, keep: tuple[str, ...]) -> str | None:
        spec = LAYOUT.kept_spec(asked, keep)
        return None if spec is None else spec.name

    assert name("zed", ("zed", "w")) == "z"
    # One was released before the ticket ended: the others are known by their own names.
    assert name("w", ("z", "w", "v")) == "w"
    assert name("double-u", ("z", "double-u", "v")) is None
