"""A model's graph with every guard in place."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.guarding.assigned_inputs import separate_assigned_inputs
from headrace.server.engine.guarding.empty_tensors.guards import guard_empty_tensors
from headrace.server.engine.guarding.empty_tensors.inputs import without_empty_inputs
from headrace.server.engine.guarding.mismatched_sizes.guards import guard_sizes
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds


def guard_model(model: ov.Model, inputs: Sequence[Port]) -> tuple[Port, ...]:
    """Change the model, in place, so that no client's data and shapes make it answer with another client's data.

    Returns the inputs with the sizes that are admitted from now on. Raises FailedPrecondition, which names the
    operation and the reason, for a model that cannot be guarded; the message is for the operator, not for clients.
    """
    separate_assigned_inputs(model)
    guard_bounds(model)
    guard_sizes(model)
    admitted = without_empty_inputs(model, inputs)
    guard_empty_tensors(model, admitted)
    return admitted
