"""Sizes of tensors inside a model, and operations in front of an input that make its sizes match others."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset


def size_of(source: ov.Output, axis: int) -> int | None:
    """The size of an axis; None where it is dynamic."""
    shape = source.get_partial_shape()
    if shape.rank.is_dynamic or shape[axis].is_dynamic:
        return None
    return int(shape[axis].get_length())


def rank_of(source: ov.Output) -> int | None:
    """The number of axes; None where it is dynamic."""
    rank = source.get_partial_shape().rank
    return None if rank.is_dynamic else int(rank.get_length())


def is_same_size(source: ov.Output, axis: int, other: ov.Output, other_axis: int) -> bool:
    """Whether two sizes are known to be equal: the same number, or both passed on from one size of an input.

    Symbols count as equal only if they are one object. Symbols that merely compare equal were joined by an operation
    that assumes its inputs to match, which is what must be checked.
    """
    if rank_of(source) is None or rank_of(other) is None:
        return False
    left, right = source.get_partial_shape()[axis], other.get_partial_shape()[other_axis]
    if left.is_static or right.is_static:
        return bool(left == right)
    return (source == other and axis == other_axis) or (left.has_symbol() and left.get_symbol() is right.get_symbol())


def vector(value: int) -> ov.Node:
    """A constant i64[1]."""
    return opset.constant(np.array([value], np.int64))


def size_vector(source: ov.Output, axis: int) -> ov.Node:
    """The size of an axis at run time, as i64[1]."""
    return opset.gather(opset.shape_of(source, "i64"), vector(axis), opset.constant(np.int64(0)))


def cut(target: ov.Input, axis: int, other: ov.Output, other_axis: int) -> None:
    """Cut an axis of an input to the size of another tensor's axis, unless they are known to be equal."""
    source = target.get_source_output()
    if is_same_size(source, axis, other, other_axis):
        return
    stop = size_vector(other, other_axis)
    target.replace_source_output(opset.slice(source, vector(0), stop, vector(1), vector(axis)).output(0))


def cut_to_shortest(*axes: tuple[ov.Input, int]) -> None:
    """Cut these axes of inputs to the size of the shortest."""
    sources = [(target.get_source_output(), axis) for target, axis in axes]
    for index, (target, axis) in enumerate(axes):
        for other_index, (other, other_axis) in enumerate(sources):
            if other_index != index:
                cut(target, axis, other, other_axis)


def broadcast_mask(mask: ov.Input, keys: ov.Output, axis: int) -> None:
    """Give a mask, which is added to scores, an element for each key, even where it has a single one for all."""
    source = mask.get_source_output()
    if rank_of(source) not in (0, 1) and not is_same_size(source, -1, keys, axis):
        cut(mask, -1, keys, axis)
        source = mask.get_source_output()
        mask.replace_source_output(opset.broadcast(source, size_vector(keys, axis), None, "bidirectional").output(0))


def inner_axis(index: int, transposed: bool, rank: int | None) -> int:
    """The axis of a MatMul's input along which it sums."""
    if rank == 1:
        return -1
    return -1 if (index == 0) != transposed else -2
