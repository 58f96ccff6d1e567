"""Output arrays in short: the range of their values, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FIRST_VALUES = 4
"""The number of values that a table shows."""
MAX_STRING = 24
"""The number of characters of a string that a table shows."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The smallest value, the mean and the largest value of an array."""

    min: float
    mean: float
    max: float


def summary(array: Array) -> Summary | None:
    """The summary of an array; None for BYTES and for an array without elements."""
    if array.dtype.hasobject or not array.size:
        return None
    numbers = array
    if array.dtype.kind == "b":
        numbers = array.astype(np.uint8)
    elif array.dtype.itemsize == 2 and array.dtype.kind not in "iu":
        numbers = array.astype(np.float32)  # NumPy itself has no bfloat16
    with np.errstate(all="ignore"):
        mean = float(np.mean(numbers, dtype=np.float64))
    return Summary(numbers.min().item(), mean, numbers.max().item())


def first_values(array: Array, count: int = FIRST_VALUES) -> str:
    """The first values in row-major order, for example `0.5 1.25 ...`."""
    shown = [value_text(value) for value in array.flat[:count].tolist()]
    return " ".join(shown + ["..."] * (array.size > count))


def value_text(value: object) -> str:
    """A number with four significant digits, or a quoted string."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes | str):
        text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
        return repr(text if len(text) <= MAX_STRING else text[: MAX_STRING - 3] + "...")
    return format(float(value), ".4g")  # type: ignore[arg-type]  # ml_dtypes.bfloat16 has __float__
