"""Inputs: arrays and references to kept outputs, and arrays as bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.wire.dtypes import datatype_of, numpy_dtype
from headrace.wire.errors import InvalidArgument, quote


@dataclass(slots=True, eq=False)
class Reference:
    """A kept output as an input of a later ticket: `ticket["z"]`, or `ticket.take("z")`."""

    stream: object = field(repr=False)
    tag: int
    output: str
    take: bool = False


@dataclass(frozen=True, slots=True)
class Zeros:
    """An input of zeros that is made on the server: made by `zeros`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def zeros(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Zeros:
    """An input of zeros that nobody has to send: how a recurrence begins. 64 MiB at most.

    Raises InvalidArgument for a dtype that has no datatype.
    """
    normal = numpy_dtype(datatype_of(np.dtype(dtype)))
    return Zeros((shape,) if isinstance(shape, int) else tuple(shape), normal)


Inputs = Mapping[str, npt.ArrayLike | Reference | Zeros]
"""Name to array (or what `np.asarray` makes one of), to a reference, or to zeros."""


Normal = dict[str, npt.NDArray[Any] | Reference | Zeros]
"""Arrays of the wire's dtypes only: little-endian, strings as objects."""


def normalised(inputs: Inputs) -> Normal:
    """The same inputs with arrays of the wire's dtypes only.

    Raises InvalidArgument, naming the input, for a dtype that has no datatype.
    """
    return {
        name: value if isinstance(value, Reference | Zeros) else _normal(name, np.asarray(value))
        for name, value in inputs.items()
    }


def _normal(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    try:
        datatype = datatype_of(array.dtype)
    except InvalidArgument as error:
        raise InvalidArgument(f"input {quote(name)}: {error.message}") from None
    return array.astype(numpy_dtype(datatype), copy=False)


def fixed_size(array: npt.NDArray[Any]) -> int | None:
    """Bytes on the wire of every array of this dtype and shape; None for BYTES."""
    return None if array.dtype.hasobject else array.nbytes
