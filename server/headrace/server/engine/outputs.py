"""The outputs of a slot: scratch tensors of its own, and how results get out of them."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.calls import Plan
from headrace.server.core.engine_api import Part, Tensor
from headrace.server.core.specs import Port
from headrace.server.engine.kept_inputs import kept_input
from headrace.server.engine.models import CompiledModel
from headrace.server.engine.run_inputs import inputs_of, shapes_of
from headrace.server.engine.strings import string_output
from headrace.server.engine.tensors import MAX_COPIED_BYTES, Data, OutputTensor, as_bytes
from headrace.wire.dtypes import Datatype

_NOTHING: Sequence[Tensor] = ()
_Small = tuple[Datatype, npt.NDArray[np.generic]]
Results = tuple[Sequence[Sequence[Tensor]], Sequence[Sequence[Tensor]]]
"""For each part the tensors of `plan.outputs`; then for each part those of `keep`."""


class Outputs:
    """The outputs of one InferRequest. A tensor stays set until another is, and only scratch tensors are ever set.

    After a run a small output is copied out; a large one takes the scratch tensor with it, and the slot makes another.
    Outputs that were not requested are not read. So no later run writes to memory that was given out.
    """

    def __init__(self, model: CompiledModel, request: ov.InferRequest) -> None:
        self._request = request
        self._ports = {port.index: port for port in model.spec.outputs}
        self._positions = {index: position for position, index in enumerate(self._ports)}
        """The index of each output in the runtime: a variant has only some of the model's."""
        self._passed = {index: model.passed[at] for index, at in self._positions.items() if at in model.passed}
        self._implied = model.implied
        self._presets = {
            port.index: (compiled.get_element_type(), _preset(port))
            for compiled, port in zip(model.runtime.outputs, model.spec.outputs, strict=True)
        }
        computed = [port for port in self._ports.values() if port.index not in self._passed]
        self._dynamic = [port.index for port in computed if port.static_shape is None]
        self._oversized: set[int] = set()
        self._scratch: dict[int, ov.Tensor] = {}
        self._copied: dict[int, npt.NDArray[np.generic]] = {}
        self._plan: Plan | None = None
        """The plan of an earlier run, if all outputs that it sends and keeps are copied: these."""
        self._sent: Sequence[_Small] = ()
        self._kept: Sequence[_Small] = ()
        for port in computed:
            self._renew(port.index)

    def prepare(self, parts: Sequence[Part]) -> None:
        """Before a run: replace scratch tensors that may be larger than the result, which will be given out with them.

        The results of a batch are copied out of them.
        """
        if self._oversized and len(parts) == 1:
            (part,) = parts
            assert part.plan is not None
            for port in (*part.plan.outputs, *part.plan.keep):
                if port.index in self._oversized:
                    self._renew(port.index)

    def unread(self) -> None:
        """Note that a run whose outputs are not read may have written outputs of any size."""
        self._oversized.update(self._dynamic)

    def release_memory(self) -> None:
        """Replace scratch tensors that a run may have made larger than later ones need. No run may be in progress."""
        for index in tuple(self._oversized):
            self._renew(index)

    def close(self) -> None:
        """Drop the InferRequest, which the traceback of an error might keep alive through this object."""
        self._request = None

    def read(self, parts: Sequence[Part], given: Sequence[Part]) -> Results:
        """The results of the completed run, in memory that no later run writes to.

        `given` are the parts as clients gave them, from which inputs are kept: with images where `parts` have pixels.

        Raises RuntimeError when an output has a shape that does not belong to the inputs.
        """
        if len(parts) > 1:
            return self._read_batch(parts, given)
        (part,) = parts
        plan = part.plan
        assert plan is not None
        outputs = plan.outputs
        if plan is self._plan and len(part.keep) == len(plan.keep):
            return [[_copy(small) for small in self._sent]], [[_copy(small) for small in self._kept]]
        self._learn(plan)
        if not part.keep and (not self._dynamic or len(outputs) == len(self._ports)):
            return [[self._take(port, part) for port in outputs]], [_NOTHING]
        kept = [plan.keep[position] for position in part.keep]
        taken: dict[int, Tensor] = {}
        for port in (*outputs, *kept):
            if port.is_kept_input:
                taken[port.index] = kept_input(given[0], port)
            elif port.index not in taken:
                taken[port.index] = self._take(port, part)
        if self._dynamic:
            self._skip_others(taken)
        return [[taken[port.index] for port in outputs]], [[taken[port.index] for port in kept]]

    def _learn(self, plan: Plan) -> None:
        """Note whether all outputs that runs of this plan send and keep are small and have static shapes."""
        ports = (*plan.outputs, *plan.keep)
        if not self._dynamic and len({*ports}) == len(ports) and all(port.index in self._copied for port in ports):
            self._sent = [(port.datatype, self._copied[port.index]) for port in plan.outputs]
            self._kept = [(port.datatype, self._copied[port.index]) for port in plan.keep]
            self._plan = plan

    def _read_batch(self, parts: Sequence[Part], given: Sequence[Part]) -> Results:
        """Read each output as a whole and cut it.

        Each part gets a copy, so that no ticket holds more memory than it is charged for.
        """
        plan = parts[0].plan
        assert plan is not None
        rows = [part.rows for part in parts]
        if any(part.keep or part.plan is not plan for part in parts):
            return self._read_mixed(parts, given, rows)
        self._skip_others({port.index for port in plan.outputs})
        columns = [_cut(port, rows, self._joined(port)) for port in plan.outputs]
        sent: Sequence[Sequence[Tensor]] = [*zip(*columns, strict=True)] if columns else [_NOTHING] * len(parts)
        return sent, [_NOTHING] * len(parts)

    def _read_mixed(self, parts: Sequence[Part], given: Sequence[Part], rows: Sequence[int]) -> Results:
        columns: dict[int, Sequence[OutputTensor]] = {}
        sent: list[list[Tensor]] = []
        kept: list[list[Tensor]] = []
        for number, part in enumerate(parts):
            plan = part.plan
            assert plan is not None
            keeps = [plan.keep[position] for position in part.keep]
            taken: dict[int, Tensor] = {}
            for port in (*plan.outputs, *keeps):
                if port.is_kept_input:
                    taken[port.index] = kept_input(given[number], port)
                    continue
                if port.index not in columns:
                    columns[port.index] = _cut(port, rows, self._joined(port))
                taken[port.index] = columns[port.index][number]
            sent.append([taken[port.index] for port in plan.outputs])
            kept.append([taken[port.index] for port in keeps])
        self._skip_others(columns)
        return sent, kept

    def _skip_others(self, read: Container[int]) -> None:
        """Note that outputs that were not read may have grown beyond what a later, smaller output should pin."""
        self._oversized.update([index for index in self._dynamic if index not in read])

    def _take(self, port: Port, part: Part) -> Tensor:
        """An output of a run of one part."""
        index = port.index
        copied = self._copied.get(index)
        if copied is not None:
            return _copy((port.datatype, copied))
        if index in self._passed:
            return self._pass(port, part)
        if port.datatype is Datatype.BYTES:
            strings = string_output(self._scratch[index])
            self._check(index, strings.shape, part)
            return strings
        shape, data = self._whole(port)
        self._check(index, shape, part)
        return OutputTensor(port.datatype, shape, data)

    def _check(self, index: int, shape: tuple[int, ...], part: Part) -> None:
        """Raises RuntimeError when an output has sizes that do not belong to the inputs of the part."""
        position = self._positions[index]
        if position in self._implied:
            self._implied.check(position, shape, shapes_of(part))

    def _whole(self, port: Port) -> tuple[tuple[int, ...], Data]:
        """The shape and the bytes of an output."""
        array = self._scratch[port.index].data
        if array.nbytes <= MAX_COPIED_BYTES:
            return array.shape, array.tobytes()
        self._renew(port.index)
        return array.shape, as_bytes(array)

    def _joined(self, port: Port) -> tuple[tuple[int, ...], Data]:
        """The same of a batch. The next run may write to these bytes: they are to be copied."""
        array = self._scratch[port.index].data
        if array.nbytes <= MAX_COPIED_BYTES:
            return array.shape, array.tobytes()  # parts of bytes are copied in half the time
        if port.static_shape is None:
            self._oversized.add(port.index)
        return array.shape, as_bytes(array)

    def _pass(self, output: Port, part: Part) -> Tensor:
        """A copy of an output that is an input passed through, because the caller's memory may not last."""
        inputs = {port.index: (shape, data) for port, shape, data in inputs_of(part)}
        shape, data = inputs[self._passed[output.index]]
        return OutputTensor(output.datatype, shape, bytes(data))

    def _renew(self, index: int) -> None:
        """Give the runtime new memory for this output."""
        scratch = ov.Tensor(*self._presets[index])
        self._request.set_output_tensor(self._positions[index], scratch)
        self._scratch[index] = scratch
        self._oversized.discard(index)
        port = self._ports[index]
        if (
            port.static_shape is not None
            and port.datatype is not Datatype.BYTES
            and scratch.byte_size <= MAX_COPIED_BYTES
        ):
            self._copied[index] = scratch.data


def _copy(small: _Small) -> OutputTensor:
    datatype, array = small
    return OutputTensor(datatype, array.shape, array.tobytes())


def _cut(port: Port, rows: Sequence[int], whole: tuple[tuple[int, ...], Data]) -> list[OutputTensor]:
    """The parts of an output, each in memory of its own.

    Raises RuntimeError when the output does not have as many rows as the inputs.
    """
    shape, data = whole
    count = len(rows)
    total = sum(rows)
    if shape[0] != total:
        raise RuntimeError(f"output {port.name!r} of a batch of {total} rows has shape {list(shape)}")
    size, rest = len(data) // total, shape[1:]
    if total == count and size:
        one = (1, *rest)
        return [OutputTensor(port.datatype, one, bytes(data[at : at + size])) for at in range(0, len(data), size)]
    tensors: list[OutputTensor] = []
    at = 0
    for number in rows:
        tensors.append(OutputTensor(port.datatype, (number, *rest), bytes(data[at : at + number * size])))
        at += number * size
    return tensors


def _preset(port: Port) -> ov.Shape:
    """The shape of new scratch tensors: dynamic dimensions start at 0, and the runtime grows them."""
    if port.shape is None:
        return ov.Shape([0])
    return ov.Shape([dimension.min if dimension.static else 0 for dimension in port.shape])
