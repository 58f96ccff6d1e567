"""Loop and TensorIterator, whose bodies may never run."""

from __future__ import annotations

from functools import partial

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.guarding.empty_tensors.refusals import refuse
from headrace.server.engine.guarding.empty_tensors.selection import replace_output
from headrace.server.engine.guarding.empty_tensors.sized_operations import SizedOperation

_TO_THE_END = (1 << 31) - 1
"""The stop of a slice that takes all."""


def guard_repetition(operation: SizedOperation) -> bool:
    """Refuse to slice an input that may be empty, because the runtime may make a sequence of no steps of the operation.

    Cut the concatenated outputs of a Loop to nothing when it does not run its body. Returns whether it had to be
    guarded.
    """
    node = operation.node
    for taken in node.get_input_descriptions():
        if isinstance(taken, ov.op.util.SliceInputDescription) and operation.may_be_empty(taken.input_index):
            refuse(node, [taken.input_index])
    return node.get_type_name() == "Loop" and _cut_concatenated_outputs(node)


def _cut_concatenated_outputs(node: ov.Node) -> bool:
    """A Loop that does not run its body leaves its concatenated outputs, and even their shapes, as they were."""
    given = [node.input_value(index).get_node() for index in (0, 1)]
    if all(source.get_type_name() == "Constant" and source.data.all() for source in given):
        return False
    zero, one = (opset.constant(np.array([value], np.int64)) for value in (0, 1))
    count, condition = node.input_value(0), node.input_value(1)
    never_runs = opset.logical_or(opset.equal(opset.convert(count, "i64"), zero), opset.logical_not(condition))
    end = opset.select(never_runs, zero, opset.constant(np.array([_TO_THE_END], np.int64)))
    end = opset.reshape(end, one, False)
    for description in node.get_output_descriptions():
        if isinstance(description, ov.op.util.ConcatOutputDescription):
            output = node.output(description.output_index)
            axis = opset.constant(np.array([description.axis], np.int64))
            replace_output(output, partial(opset.slice, output, zero, end, one, axis))
    return True
