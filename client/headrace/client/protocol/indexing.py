"""Parts of tensors as NumPy writes them: `[2:3]`, `[-1:]`, `[:, 1:4]`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_integer

from headrace.client.protocol.slices import Slices
from headrace.wire.errors import InvalidArgument


def slices_of(index: object, sizes: Sequence[int | None], rank: int | None) -> Slices:
    """The slice along each leading axis, of an index of a tensor with these `sizes` along its leading axes.

    A size is None where it is not known yet, and so is `rank`, the number of axes. As with NumPy, a start or stop may
    be left out or negative, but only along an axis of known size. Nothing is cut off: a slice lies inside its axis.

    Raises TypeError for what is no slice, ValueError for a step or for an axis of unknown size, and InvalidArgument for
    a slice that does not lie inside the tensor.
    """
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if not isinstance(part, slice):
            raise TypeError(f"{part!r} is not a slice; an axis stays, so the row 2 is [2:3]")
        if part.step not in (None, 1):
            raise ValueError(f"a slice has step {part.step!r}; only whole ranges can be used, with step 1")
    if rank is not None and len(parts) > rank:
        raise InvalidArgument(f"{len(parts)} slices for a tensor of {rank} dimensions")
    while parts and parts[-1] == slice(None):
        parts = parts[:-1]
    known = [*sizes, *[None] * (len(parts) - len(sizes))]
    return tuple(_bounds(part, axis, known[axis]) for axis, part in enumerate(parts))


def _bounds(part: slice, axis: int, size: int | None) -> tuple[int, int]:
    start = 0 if part.start is None else as_integer(part.start)
    stop = size if part.stop is None else as_integer(part.stop)
    if size is None and (start < 0 or stop is None or stop < 0):
        raise ValueError(
            f"the size of axis {axis} is not known before the ticket has ended: give a stop, and no negative numbers, "
            "or await the ticket first"
        )
    assert stop is not None
    start, stop = (bound + (size or 0) if bound < 0 else bound for bound in (start, stop))
    if not 0 <= start <= stop or (size is not None and stop > size):
        written = ":".join(["" if bound is None else str(bound) for bound in (part.start, part.stop)])
        of_size = "" if size is None else f" of size {size}"
        raise InvalidArgument(f"slice {written} does not lie inside axis {axis}{of_size}")
    return start, stop
