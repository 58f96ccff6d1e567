"""The variables of an InferRequest: what they hold is taken from one and given to another."""

from __future__ import annotations

from collections.abc import Mapping

import openvino as ov

from headrace.server.core.engine_api import Variables


class HeldVariables:
    """Copies of what the variables of a model hold: an `engine_api.Variables`."""

    __slots__ = ("nbytes", "tensors")

    def __init__(self, tensors: Mapping[str, ov.Tensor]) -> None:
        self.tensors = tensors
        self.nbytes = sum([tensor.byte_size for tensor in tensors.values()])

    def __repr__(self) -> str:
        return f"<HeldVariables {[*self.tensors]}, {self.nbytes} bytes>"


class VariablesOf:
    """The variables of one InferRequest. To be used while it does not run."""

    def __init__(self, request: ov.InferRequest) -> None:
        self._request = request
        self._states: Mapping[str, ov.VariableState] = {state.name: state for state in request.query_state()}

    def set(self, held: Variables | None) -> None:
        """Let the next run begin with these; None for what the variables begin with. The runtime copies them."""
        if held is None:
            self._request.reset_state()
            return
        assert isinstance(held, HeldVariables)
        for name, tensor in held.tensors.items():
            self._states[name].state = tensor

    def held(self) -> HeldVariables:
        """Copies of what they hold after a run. The runtime's own tensors change with the next one."""
        return HeldVariables({name: _copy(state.state) for name, state in self._states.items()})

    def close(self) -> None:
        """Drop the InferRequest, which the traceback of an error might keep alive through this object."""
        self._request = None
        self._states = {}


def _copy(tensor: ov.Tensor) -> ov.Tensor:
    copy = ov.Tensor(tensor.element_type, tensor.shape)
    tensor.copy_to(copy)
    return copy
