"""Sizes and shapes of ports, worked out without the core's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.server.core.engine_api import Slices
from headrace.server.core.specs import Dimension, Port


def static_bytes(port: Port) -> int | None:
    """Bytes of a static FP32 or INT64 port; None when its shape is dynamic."""
    assert port.shape is not None
    count = 4 if port.datatype.name == "FP32" else 8
    for each in port.shape:
        if each.min != each.max:
            return None
        count *= each.min
    return count


def overlaps(one: Dimension, other: Dimension) -> bool:
    """Whether some size fits both."""
    top = min(each.max if each.max >= 0 else 1 << 62 for each in (one, other))
    return max(one.min, other.min) <= top


def compatible(source: Port, target: Port) -> bool:
    """Whether some tensor of `source` fits `target`."""
    assert source.shape is not None
    assert target.shape is not None
    same = source.datatype is target.datatype and len(source.shape) == len(target.shape)
    return same and all(overlaps(one, other) for one, other in zip(source.shape, target.shape, strict=True))


def part_of(shape: Sequence[int], part: Slices) -> tuple[int, ...]:
    """The shape of a part that lies inside."""
    return (*(stop - start for start, stop in part), *shape[len(part) :])


def lies_inside(part: Slices, most: Sequence[int | None]) -> bool:
    """Whether a tensor with at `most` so many elements along its axes may have this part."""
    pairs = zip(part, most, strict=False)
    return len(part) <= len(most) and all(
        0 <= start <= stop and (size is None or stop <= size) for (start, stop), size in pairs
    )


def part_of_port(port: Port, part: Slices) -> Port | None:
    """What a part of an output may be; None if it cannot have that part."""
    assert port.shape is not None
    if not lies_inside(part, [None if each.max < 0 else each.max for each in port.shape]):
        return None
    sizes = [Dimension(stop - start, stop - start) for start, stop in part]
    return replace(port, shape=(*sizes, *port.shape[len(part) :]))


def part_fits(shape: Sequence[int], part: Slices, port: Port) -> bool:
    """Whether a tensor of this shape has a part that fits a port."""
    return lies_inside(part, shape) and fits(part_of(shape, part), port)


def fits(shape: Sequence[int], port: Port) -> bool:
    assert port.shape is not None
    sizes = zip(shape, port.shape, strict=True)
    return all(each.min <= size and (each.max < 0 or size <= each.max) for size, each in sizes)
