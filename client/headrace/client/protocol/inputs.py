"""Inputs of an inference: arrays, references to kept outputs, and zeros. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.indexing import slices_of
from headrace.client.protocol.slices import Slices, compose
from headrace.wire.dtypes import datatype_of, numpy_dtype
from headrace.wire.errors import InvalidArgument, quote


class Source(Protocol):
    """The ticket that a reference refers to."""

    def kept_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a kept output; None until the ticket is done."""


@dataclass(slots=True, eq=False)
class Reference:
    """A kept output (or input) as an input of a later ticket; made by `ticket["z"]` or `ticket.take("z")`.

    `reference[2:3]` is a part of it, as in NumPy: rows 2 to 3 of its first axis; `reference[:, 1:4]` cuts the second
    one. All axes stay, and the part must be what the input takes. It is no copy where it is contiguous.
    """

    stream: object = field(repr=False)
    tag: int
    output: str
    take: bool = False
    source: Source | None = field(default=None, repr=False)
    slices: Slices = ()
    """Along the leading axes of the output."""

    def __getitem__(self, index: slice | tuple[slice, ...]) -> Reference:
        """A part of this output, or of this part of it: a slice for each leading axis, with step 1.

        A start or stop that is left out, as well as a negative one, needs the size of its axis. That is known once the
        ticket has ended, or if the axis was cut before. A part of what is taken releases the whole output.

        Raises TypeError for an index that is no slice, ValueError for a step or for an axis of unknown size, and
        InvalidArgument for a slice that does not lie inside the output, as far as that is known. What is not known is
        checked by the server when the output is there.
        """
        whole = None if self.source is None else self.source.kept_shape(self.output)
        cut = [stop - start for start, stop in self.slices]
        sizes = [*cut, *(whole or ())[len(cut) :]]
        inner = slices_of(index, sizes, None if whole is None else len(whole))
        slices = compose(self.slices, inner)
        return Reference(self.stream, self.tag, self.output, self.take, self.source, slices)


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


class KeepsOutputs(ABC):
    """Marks tickets: one of its kept outputs can be an input, but not the ticket itself."""

    __slots__ = ()

    @property
    @abstractmethod
    def keep(self) -> tuple[str, ...]:
        """The outputs that stay on the server, as the call names them."""


class SupportsDLPack(Protocol):
    """An array of another library, such as a tensor of PyTorch or JAX."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...


Input: TypeAlias = npt.ArrayLike | SupportsDLPack | Reference | Zeros
Inputs: TypeAlias = Mapping[str, Input]
"""The input for each name: an array (or anything that `as_array` converts), a reference, or zeros."""


NormalInputs: TypeAlias = dict[str, npt.NDArray[Any] | Reference | Zeros]
"""Inputs whose arrays have the dtypes of the wire: little-endian numbers, and strings as objects."""


def normal(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same array with a dtype of the wire. Raises InvalidArgument for a dtype without a datatype."""
    try:
        datatype = datatype_of(array.dtype)
    except InvalidArgument as error:
        raise InvalidArgument(f"input {quote(name)}: {error.message}") from None
    return array.astype(numpy_dtype(datatype), copy=False)


def fixed_size(array: npt.NDArray[Any]) -> int | None:
    """The size on the wire of any array of this dtype and shape, in bytes; None for BYTES."""
    return None if array.dtype.hasobject else array.nbytes
