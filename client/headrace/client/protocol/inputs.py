"""Inputs of an inference: arrays, references to kept outputs, and zeros. Pure."""

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
    """A kept output as an input of a later ticket; made by `ticket["z"]` or `ticket.take("z")`."""

    stream: object = field(repr=False)
    tag: int
    output: str
    take: bool = False


@dataclass(frozen=True, slots=True)
class Zeros:
    """An input of zeros that the server allocates; made by `zeros`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def zeros(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Zeros:
    """An input of zeros that is not sent, for example the first state of a recurrent model. At most 64 MiB.

    Raises InvalidArgument for a dtype without a datatype.
    """
    wire_dtype = numpy_dtype(datatype_of(np.dtype(dtype)))
    return Zeros((shape,) if isinstance(shape, int) else tuple(shape), wire_dtype)


Inputs = Mapping[str, npt.ArrayLike | Reference | Zeros]
"""The input for each name: an array (or anything that `np.asarray` converts), a reference, or zeros."""


NormalInputs = dict[str, npt.NDArray[Any] | Reference | Zeros]
"""Inputs whose arrays have the dtypes of the wire: little-endian numbers, and strings as objects."""


def normalize(inputs: Inputs) -> NormalInputs:
    """The same inputs, with arrays converted to the dtypes of the wire.

    Raises InvalidArgument, naming the input, for a dtype without a datatype.
    """
    return {
        name: value if isinstance(value, Reference | Zeros) else _normalize(name, np.asarray(value))
        for name, value in inputs.items()
    }


def _normalize(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    try:
        datatype = datatype_of(array.dtype)
    except InvalidArgument as error:
        raise InvalidArgument(f"input {quote(name)}: {error.message}") from None
    return array.astype(numpy_dtype(datatype), copy=False)


def fixed_size(array: npt.NDArray[Any]) -> int | None:
    """The size on the wire of any array of this dtype and shape, in bytes; None for BYTES."""
    return None if array.dtype.hasobject else array.nbytes
