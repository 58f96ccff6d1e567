"""Numbers that are brought into a range that is known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import follows
from headrace.server.engine.guarding.out_of_bounds.refusals import Guard

_MAX_COORDINATE = float(1 << 24)
"""More than any image is wide, and far from where floats stop fitting into integers."""


def change_input(node: ov.Node, index: int, change: Callable[[ov.Output], ov.Node]) -> None:
    """Put operations between an input and its source. Does nothing for constants and for inputs that are missing."""
    if index < node.get_input_size() and node.input_value(index).get_node().get_type_name() != "Constant":
        node.input(index).replace_source_output(change(node.input_value(index)).output(0))


def number(value: int, like: ov.Output) -> ov.Node:
    """A constant scalar with the element type of another tensor."""
    return opset.constant(value, like.get_element_type())


def at_least(least: int, *indices: int) -> Guard:
    """Raise the numbers in these inputs to `least`."""

    def guard(node: ov.Node) -> None:
        for index in indices:
            change_input(node, index, lambda source: opset.maximum(source, number(least, source)))

    return guard


def replaced(value: int, index: int, replacement: int) -> Guard:
    """Replace one value in an input by another."""

    def change(source: ov.Output) -> ov.Node:
        return opset.select(opset.equal(source, number(value, source)), number(replacement, source), source)

    return lambda node: change_input(node, index, change)


def finite(*indices: int) -> Guard:
    """Replace NaN by 0 in these inputs, and clamp numbers that are too large for an integer."""

    def change(source: ov.Output) -> ov.Node:
        zero = opset.convert_like(opset.constant(np.float32(0)), source)
        finite_or_infinite = opset.select(opset.is_nan(source), zero, source)
        return opset.clamp(finite_or_infinite, -_MAX_COORDINATE, _MAX_COORDINATE)

    def guard(node: ov.Node) -> None:
        for index in indices:
            change_input(node, index, change)

    return guard


def guard_iterations(node: ov.Node) -> None:
    """Make a negative number of iterations 0.

    It would mean "until the body says stop", which is never where the body has no say.
    """
    results, (_, condition) = node.get_function().get_results(), node.get_special_body_ports()
    if condition < 0 or follows(results[condition].input_value(0)):
        at_least(0, 0)(node)


def guard_step(node: ov.Node) -> None:
    """Make an integer step of 0 a step of 1."""
    if node.input_value(node.get_input_size() - 1).get_element_type().is_integral():
        replaced(0, node.get_input_size() - 1, 1)(node)
