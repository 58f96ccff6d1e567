"""Variants of a model that compute only some of its outputs.

A variant has all inputs of the model, also those that nothing in it uses any more: what clients may send does not
depend on whether there is a variant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.compilation import Compilation
from headrace.wire.dtypes import Datatype


def may_be_pruned(
    compilation: Compilation, inputs: Sequence[Port], outputs: Sequence[Port], *, has_variables: bool, indices: bool
) -> bool:
    """Whether variants of a model may be made.

    Not with variables: a run that leaves out an output might leave out a change of them. Not with strings, on which a
    variant cannot be tried well. Not with `indices`, outputs that say where the elements of others have been: a request
    for one of them is refused without the other.
    """
    return (
        compilation.prune == "auto"
        and compilation.device == "CPU"
        and len(outputs) > 1
        and not (has_variables or indices)
        and all(port.datatype is not Datatype.BYTES for port in (*inputs, *outputs))
    )


def prune(model: ov.Model, outputs: Collection[int]) -> None:
    """Leave a model only these of its outputs, and what they need. The model is changed in place."""
    for index, result in enumerate(model.get_results()):
        if index not in outputs:
            model.remove_result(result)
    model.validate_nodes_and_infer_types()


def renumbered(ports: Sequence[Port]) -> tuple[Port, ...]:
    """Outputs of a model, as those of the runtime's variant, which counts them anew."""
    return tuple(replace(port, index=index) for index, port in enumerate(ports))
