"""Puts behind a model what turns its outputs into those that clients get."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.port_options import OutputOptions
from headrace.server.engine.preparing.datatypes import element_type
from headrace.server.engine.reasons import reason_of
from headrace.wire.errors import quote

INDICES = ".indices"
"""Ends the name of the output with the indices of `topk`."""
_RANGE = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*")
_END = (1 << 31) - 1


def prepare_outputs(model: ov.Model, outputs: Mapping[int, OutputOptions], names: Sequence[str]) -> dict[int, int]:
    """Change the outputs of a model, by number, to what their options say. `names` are for messages.

    Outputs of indices come behind all others. Returns, for each output of `topk`, the number of that of its indices.
    Raises ValueError with a clause.
    """
    if not any(map(changes, outputs.values())):
        return {}
    ranked: dict[int, int] = {}
    inputs = [(port, {*port.get_names()}) for port in model.inputs]
    for number, options in outputs.items():
        if not changes(options):
            continue
        try:
            indices = _prepare(model.get_results()[number], options)
        except ValueError as error:
            raise ValueError(f"output {quote(names[number])}: {error}") from None
        except RuntimeError as error:
            reason = f"the options of output {quote(names[number])} do not fit it: {reason_of(error)}"
            raise ValueError(reason) from error
        if indices is not None:
            ranked[number] = len(model.outputs)
            model.add_results([indices])
    model.validate_nodes_and_infer_types()
    for port, known in inputs:  # an input that was passed through has lost its names to the output
        if port.get_names() != known:
            port.set_names(known)
    return ranked


def changes(options: OutputOptions) -> bool:
    """Whether the graph has to change for these options."""
    return replace(options, labels="", axis=-1, reshape="") != OutputOptions()


def _prepare(result: ov.Node, options: OutputOptions) -> ov.Node | None:
    """Change one output. Returns the Result of indices, if there is one."""
    source = result.input_value(0)
    if source.get_element_type() == ov.Type.string:
        raise ValueError("it has strings, with which nothing is computed")
    if options.argmax and options.topk:
        raise ValueError("argmax and topk exclude each other: topk = 1 gives the value, too")
    if options.topk < 0:
        raise ValueError(f"topk is {options.topk}; it must be at least 1")
    value, indices = source, None
    if options.softmax:
        if not value.get_element_type().is_real():
            raise ValueError(f"softmax needs floats, but it has {value.get_element_type().to_string()}")
        value = opset.softmax(value, _axis(value, options.axis)).output(0)
    if options.slice:
        value = _sliced(value, options.slice)
    if options.argmax:
        value = _argmax(value, _axis(value, options.axis))
    elif options.topk:
        value, indices = _largest(value, options.topk, _axis(value, options.axis))
    if options.threshold is not None:
        value = _above(value, options)
    if options.cast:
        value = opset.convert(value, element_type(options.cast).to_string()).output(0)
    names = {*source.get_names()}
    result.input(0).replace_source_output(value)
    source.set_names(set())
    value.set_names(names)
    if indices is None:
        return None
    indices.set_names({f"{name}{INDICES}" for name in names})
    return opset.result(indices)


def _axis(value: ov.Output, axis: int) -> int:
    rank = value.get_partial_shape().rank
    if rank.is_dynamic:
        raise ValueError("it has any number of axes")
    count = rank.get_length()
    if not -count <= axis < count:
        raise ValueError(f"axis is {axis}, but it has {count} axes")
    return int(axis % count)


def _sliced(value: ov.Output, text: str) -> ov.Output:
    shape = value.get_partial_shape()
    ranges = text.strip().removeprefix("[").removesuffix("]").split(",")
    if shape.rank.is_dynamic or len(ranges) > shape.rank.get_length():
        raise ValueError(f"slice {quote(text)} has {len(ranges)} ranges, but it has shape {shape}")
    starts, stops, axes = list[int](), list[int](), list[int]()
    for axis, each in enumerate(ranges):
        match = _RANGE.fullmatch(each)
        if match is None:
            raise ValueError(f"slice {quote(text)} is not ranges of indices: write one for each axis, such as :,0:5")
        if match[1] or match[2]:
            _check_range(each, match, shape[axis])
            starts.append(int(match[1] or 0))
            stops.append(int(match[2]) if match[2] else _END)
            axes.append(axis)
    steps = [1] * len(axes)
    return opset.slice(value, *[np.array(each, np.int64) for each in (starts, stops, steps, axes)]).output(0)


def _check_range(text: str, match: re.Match[str], dimension: ov.Dimension) -> None:
    """Raises ValueError for a range that is empty or leaves the axis, as far as its size is known."""
    if dimension.is_dynamic:
        return
    size = dimension.get_length()
    bounds = [int(bound) + (size if int(bound) < 0 else 0) for bound in (match[1] or "0", match[2] or str(size))]
    if not 0 <= bounds[0] < bounds[1] <= size:
        raise ValueError(f"the range {text.strip()} of slice is empty or leaves an axis of size {size}")


def _argmax(value: ov.Output, axis: int) -> ov.Output:
    """The index of the largest element, the first of equal ones."""
    _check_ranked(value, 1, axis)
    indices = opset.topk(value, np.int64(1), axis, "max", "value", "i32", stable=True).output(1)
    return opset.squeeze(indices, np.array([axis], np.int64)).output(0)


def _largest(value: ov.Output, count: int, axis: int) -> Sequence[ov.Output]:
    """The largest elements, in descending order, and their indices; equal elements in the order of their indices."""
    _check_ranked(value, count, axis)
    node = opset.topk(value, np.int64(count), axis, "max", "value", "i32", stable=True)
    return node.output(0), node.output(1)


def _check_ranked(value: ov.Output, count: int, axis: int) -> None:
    dimension = value.get_partial_shape()[axis]
    if dimension.is_dynamic:
        raise ValueError(f"the size of axis {axis} is dynamic, so it may have fewer elements than {count}: set shape")
    if count > dimension.get_length():
        raise ValueError(f"topk is {count}, but axis {axis} has {dimension.get_length()} elements")


def _above(value: ov.Output, options: OutputOptions) -> ov.Output:
    """Zero where the elements are smaller than the threshold. NaN is not smaller."""
    if options.argmax:
        raise ValueError("threshold applies to values, but argmax leaves indices")
    threshold = opset.convert_like(opset.constant(np.float32(options.threshold)), value)
    zero = opset.convert_like(opset.constant(np.float32(0)), value)
    return opset.select(opset.less(value, threshold), zero, value).output(0)
