"""Sizes and shapes of ports, worked out without the core's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

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


def fits(shape: Sequence[int], port: Port) -> bool:
    assert port.shape is not None
    sizes = zip(shape, port.shape, strict=True)
    return all(each.min <= size and (each.max < 0 or size <= each.max) for size, each in sizes)
