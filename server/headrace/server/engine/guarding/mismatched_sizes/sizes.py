"""Sizes of tensors inside a model, and operations that make them go together."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset


def size_of(source: ov.Output, axis: int) -> int | None:
    """None where it is not known beforehand."""
    shape = source.get_partial_shape()
    if shape.rank.is_dynamic or shape[axis].is_dynamic:
        return None
    return int(shape[axis].get_length())


def rank_of(source: ov.Output) -> int | None:
    rank = source.get_partial_shape().rank
    return None if rank.is_dynamic else int(rank.get_length())


def same(source: ov.Output, axis: int, other: ov.Output, other_axis: int) -> bool:
    """Whether the sizes are known to be the same: the same number, or passed on from the same size of an input.

    Names are the same only if they are one object: those that are said to be equal were thought to be by an operation.
    """
    if rank_of(source) is None or rank_of(other) is None:
        return False
    left, right = source.get_partial_shape()[axis], other.get_partial_shape()[other_axis]
    if left.is_static or right.is_static:
        return bool(left == right)
    return (source == other and axis == other_axis) or (left.has_symbol() and left.get_symbol() is right.get_symbol())


def vector(value: int) -> ov.Node:
    return opset.constant(np.array([value], np.int64))


def length_of(of: ov.Output, axis: int) -> ov.Node:
    """A vector of the size alone."""
    return opset.gather(opset.shape_of(of, "i64"), vector(axis), opset.constant(np.int64(0)))


def cut(at: ov.Input, axis: int, to: ov.Output, to_axis: int) -> None:
    """Make an input no longer than another tensor is, unless that is known."""
    source = at.get_source_output()
    if same(source, axis, to, to_axis):
        return
    stop = length_of(to, to_axis)
    at.replace_source_output(opset.slice(source, vector(0), stop, vector(1), vector(axis)).output(0))


def agree(*places: tuple[ov.Input, int]) -> None:
    """Make all as long as the shortest."""
    sources = [(at.get_source_output(), axis) for at, axis in places]
    for index, (at, axis) in enumerate(places):
        for other, (to, to_axis) in enumerate(sources):
            if other != index:
                cut(at, axis, to, to_axis)


def spread(mask: ov.Input, keys: ov.Output, axis: int) -> None:
    """Make what is added to scores as long as there are keys, also where it is one for all."""
    source = mask.get_source_output()
    if rank_of(source) not in (0, 1) and not same(source, -1, keys, axis):
        cut(mask, -1, keys, axis)
        source = mask.get_source_output()
        mask.replace_source_output(opset.broadcast(source, length_of(keys, axis), None, "bidirectional").output(0))


def inner_axis(index: int, transposed: bool, rank: int | None) -> int:
    """The axis along which is summed."""
    if rank == 1:
        return -1
    return -1 if (index == 0) != transposed else -2
