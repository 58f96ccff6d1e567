"""Requests: as tritonclient's classes write them, and piece by piece where they would not write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.service_pb2 import ModelInferRequest
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Array = npt.NDArray[Any]

X = np.arange(16, dtype=np.float32).reshape(1, 16)
ONES = np.ones((1, 16), np.float32)


class Datatype(NamedTuple):
    openvino: str
    """`identity_<openvino>` is a model of this datatype: x: any[?] -> same: any[?,1]."""
    numpy: npt.DTypeLike
    contents: str = ""
    """The field of typed contents; there is none for FP16 and BF16."""

    @property
    def model(self) -> str:
        return f"identity_{self.openvino}"

    def sample(self, count: int) -> Array:
        """Values that each datatype has, the same for each call."""
        dtype = np.dtype(self.numpy)
        random = np.random.default_rng(1)
        if dtype == np.bool_:
            return random.integers(0, 2, count).astype(dtype)
        if dtype.kind == "u":
            return random.integers(0, 200, count).astype(dtype)
        if dtype.kind == "i":
            return random.integers(-100, 100, count).astype(dtype)
        return (random.integers(-100, 100, count) / 4).astype(dtype)


DATATYPES = {
    "BOOL": Datatype("boolean", np.bool_, "bool_contents"),
    "UINT8": Datatype("u8", np.uint8, "uint_contents"),
    "UINT16": Datatype("u16", np.uint16, "uint_contents"),
    "UINT32": Datatype("u32", np.uint32, "uint_contents"),
    "UINT64": Datatype("u64", np.uint64, "uint64_contents"),
    "INT8": Datatype("i8", np.int8, "int_contents"),
    "INT16": Datatype("i16", np.int16, "int_contents"),
    "INT32": Datatype("i32", np.int32, "int_contents"),
    "INT64": Datatype("i64", np.int64, "int64_contents"),
    "FP16": Datatype("f16", np.float16),
    "FP32": Datatype("f32", np.float32, "fp32_contents"),
    "FP64": Datatype("f64", np.float64, "fp64_contents"),
    "BF16": Datatype("bf16", ml_dtypes.bfloat16),
}


def given(name: str, array: Array) -> InferInput:
    """An input with the datatype and the shape of an array."""
    return InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)


def pair(x: Array = X, y: Array = ONES) -> list[InferInput]:
    """The inputs of `add_multiply`."""
    return [given("x", x), given("y", y)]


class Input(NamedTuple):
    """An input as it is written, right or wrong."""

    name: str
    shape: Sequence[int] = (1, 16)
    data: bytes | None = bytes(64)
    datatype: str = "FP32"


def request(model: str, *inputs: Input, outputs: Iterable[str] = (), **fields: Any) -> ModelInferRequest:
    """Each input's data are raw contents; those without any have none."""
    message = ModelInferRequest(model_name=model, **fields)
    for each in inputs:
        message.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        if each.data is not None:
            message.raw_input_contents.append(each.data)
    for name in outputs:
        message.outputs.add(name=name)
    return message


def strings(*elements: bytes) -> bytes:
    """Raw contents of a BYTES tensor: each element behind its length."""
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


@contextmanager
def refused(status: str, *named: str) -> Iterator[None]:
    """What is done inside fails with this status and a sentence that names all of this, and nothing private."""
    with pytest.raises(InferenceServerException) as caught:
        yield
    assert caught.value.status() == f"StatusCode.{status}", caught.value
    check_sentence(caught.value.message(), *named)


def check_sentence(message: str, *named: str) -> None:
    for name in named:
        assert name in message
    assert 10 <= len(message) <= 1000, message
    for private in ("Traceback", "Exception", "Error:", "/home", "/tmp", "/work", ".py", ".xml"):
        assert private not in message
