"""What programs give as inputs becomes arrays: numbers, strings, images, tensors of other libraries."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from headrace.client.protocol.arrays import as_array
from headrace.client.protocol.ticket_state import TicketState
from headrace.wire.errors import InvalidArgument
from tests.client.protocol.made_calls import X
from tests.client.protocol.pure_streams import opened, submit


class Foreign:
    """An array of another library, which NumPy knows by DLPack alone."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class TorchLike:
    """What a tensor of PyTorch does: it gives its numbers only once it is detached and on the processor."""

    def __init__(self, array: npt.NDArray[Any], dtype: str, *, needs: tuple[str, ...] = ("detach", "cpu")) -> None:
        self._array, self._needs = array, needs
        self.dtype = dtype

    def detach(self) -> TorchLike:
        return TorchLike(self._array, self.dtype, needs=tuple(each for each in self._needs if each != "detach"))

    def cpu(self) -> TorchLike:
        return TorchLike(self._array, self.dtype, needs=tuple(each for each in self._needs if each != "cpu"))

    def float(self) -> TorchLike:
        return TorchLike(self._array.astype(np.float32), "torch.float32", needs=self._needs)

    def numpy(self) -> npt.NDArray[Any]:
        if self._needs:
            raise RuntimeError(f"call {self._needs}")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._array

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        return self.numpy()


@pytest.mark.parametrize(
    ("value", "dtype", "plain"),
    [
        (3, np.int64, True),
        (True, np.bool_, True),
        (0.5, np.float64, True),
        ([[1, 2], [3, 4]], np.int64, True),
        ((1.5, 2), np.float64, True),
        (np.float64(0.5), np.float64, False),
        (np.int8(3), np.int8, False),
        ([X, X], np.float32, False),
        (X[::2], np.float32, False),
        ([], np.float64, False),
        ("word", np.object_, False),
        ([b"a\0", "b"], np.object_, False),
        (Image.new("RGB", (4, 3)), np.uint8, False),
        (Foreign(X), np.float32, False),
        (TorchLike(X, "torch.float32"), np.float32, False),
        (memoryview(b"abc"), np.uint8, False),
    ],
)
def test_what_is_given_becomes_an_array(value: Any, dtype: Any, plain: bool) -> None:
    array, numbers = as_array("x", value)
    assert array.dtype == dtype
    assert numbers is plain


def test_strings_keep_their_last_bytes() -> None:
    array, _ = as_array("x", [b"a\0\0", b""])
    assert array.tolist() == [b"a\0\0", b""]
    assert as_array("x", b"\xff\0")[0][()] == b"\xff\0"


def test_an_image_has_rows_first() -> None:
    array, _ = as_array("x", Image.new("RGB", (4, 3), (1, 2, 3)))
    assert array.shape == (3, 4, 3)
    assert array[0, 0].tolist() == [1, 2, 3]


def test_bfloat16_of_pytorch_keeps_its_datatype() -> None:
    given = np.array([1.5, -2.25], ml_dtypes.bfloat16)
    array, _ = as_array("x", TorchLike(given, "torch.bfloat16"))
    assert array.dtype == ml_dtypes.bfloat16
    assert (array == given).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "input 'x' cannot be made an array: .*inhomogeneous"),
        ({"a": 1}, "input 'x' is a dict, which is not an array"),
        (None, "input 'x' is a NoneType, which is not an array"),
        ([1, 2**70], "input 'x' holds more than numbers of at most 64 bits"),
        ([0.5, None], "input 'x' holds more than numbers of at most 64 bits"),
        ([1, "2"], "input 'x' holds more than numbers of at most 64 bits"),
    ],
)
def test_what_is_no_array_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        as_array("x", value)


def test_a_ticket_is_not_an_input_but_its_outputs_are() -> None:
    stream, _ = opened()
    keeps, sends = submit(stream, keep=["y", "z"]), submit(stream)
    with pytest.raises(TypeError, match=r"input 'x' is a ticket: write ticket\['y'\] or ticket\['z'\]"):
        submit(stream, {"x": keeps})  # type: ignore[dict-item]  # the mistake of this test
    with pytest.raises(TypeError, match=r"input 'x' is a ticket that keeps no output.*keep=\[...\]"):
        submit(stream, {"x": sends})  # type: ignore[dict-item]  # the mistake of this test
    assert isinstance(keeps, TicketState)
