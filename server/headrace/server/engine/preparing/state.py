"""Makes the variables of a model its inputs and outputs, so that whoever runs it carries its state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import graphs
from headrace.wire.errors import quote

NEXT = ".next"
"""The end of the name of an output that is the value of a variable after the run."""
INITIAL = ".initial"
"""The end of the name of an output that is the value with which a variable begins, where that is not zeros."""
_RENAMED = ".state"
_UNNAMED = "state"
_KEEP_ZERO = {"Broadcast", "Convert", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
"""Operations whose elements are those of their first input."""


class _Uses(NamedTuple):
    """Where a variable is read, and the operation that assigns it, if any."""

    reads: Sequence[ov.Node]
    assign: ov.Node | None


def variables_to_ports(model: ov.Model) -> None:
    """Replace each variable by an input of its id and an output whose name ends in `.next`, in place.

    Where a variable does not begin with zeros, a further output, whose name ends in `.initial`, has what it begins
    with. If an input or output has one of these names already, all of them get `.state` behind the id.

    Raises ValueError, with a clause for the operator, for variables whose order of use is not known.
    """
    inputs, results = model.get_parameters(), list[ov.op.Result]()
    taken = {name for port in (*model.inputs, *model.outputs) for name in port.get_names()}
    parameters: list[ov.op.Parameter] = []
    # By id, because the order in which the model lists them may differ from process to process.
    for variable in sorted(model.get_variables(), key=lambda each: str(each.get_info().variable_id)):
        info = variable.get_info()
        uses = _uses_of(model, info.variable_id)
        model.remove_variable(variable)
        if uses.reads:
            name = _free_name(info.variable_id, taken)
            taken |= {name, name + NEXT, name + INITIAL}
            parameter = opset.parameter(*_described(info, uses.reads[0]), name=name)
            parameter.output(0).set_names({name})
            parameters.append(parameter)
            results += _rewired(uses, parameter, name)
        if uses.assign is not None:
            _replace(uses.assign.output(0), uses.assign.input_value(0))
            model.remove_sink(uses.assign)
    if parameters:
        model.add_parameters(parameters)
        model.add_results(results)
    assert model.get_parameters()[: len(inputs)] == inputs, "the inputs of the model come first"
    model.validate_nodes_and_infer_types()


def _uses_of(model: ov.Model, variable: str) -> _Uses:
    reads = _of_variable(model.get_ordered_ops(), "ReadValue", variable)
    assigns = _of_variable(model.get_ordered_ops(), "Assign", variable)
    if len(assigns) > 1:
        raise ValueError(f"its variable {quote(variable)} is assigned {len(assigns)} times in one run")
    for body in graphs(model):
        if body is not model and _of_variable(body.get_ops(), "ReadValue", variable):
            raise ValueError(f"its variable {quote(variable)} is read in the body of a loop or a condition")
    return _Uses(reads, assigns[0] if assigns else None)


def _of_variable(nodes: Iterable[ov.Node], type_name: str, variable: str) -> list[ov.Node]:
    return [
        node for node in nodes if node.get_type_name() == type_name and node.get_attributes()["variable_id"] == variable
    ]


def _described(info: ov.op.util.VariableInfo, read: ov.Node) -> tuple[ov.PartialShape, ov.Type]:
    """The shape and the type of a variable. In older models only what reads it has them."""
    shape, element_type = info.data_shape, info.data_type
    if shape.rank.is_dynamic:
        shape = read.get_output_partial_shape(0)
    return shape, read.get_output_element_type(0) if element_type.is_dynamic() else element_type


def _free_name(variable: str, taken: set[str]) -> str:
    name = variable or _UNNAMED
    while not taken.isdisjoint({name, name + NEXT, name + INITIAL}):
        name += _RENAMED
    return name


def _rewired(uses: _Uses, parameter: ov.op.Parameter, name: str) -> list[ov.op.Result]:
    """Let a parameter take the place of a variable. Returns the results that tell its value after and before a run."""
    initial = next((read.input_value(0) for read in uses.reads if read.get_input_size()), None)
    for read in uses.reads:
        _replace(read.output(0), parameter.output(0))
    # A variable that nothing assigns keeps its value.
    after = parameter.output(0) if uses.assign is None else uses.assign.input_value(0)
    results = [_result(after, name + NEXT)]
    if initial is not None and not _is_zero(initial):
        results.append(_result(initial, name + INITIAL))
    return results


def _result(source: ov.Output, name: str) -> ov.op.Result:
    result = opset.result(source, name=name)
    result.output(0).set_names({name})
    return result


def _replace(old: ov.Output, new: ov.Output) -> None:
    for target in old.get_target_inputs():
        target.replace_source_output(new)


def _is_zero(source: ov.Output) -> bool:
    """Whether a value is known to be zeros, of whatever shape."""
    node = source.get_node()
    while node.get_type_name() in _KEEP_ZERO:
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant" and not np.any(node.data)
