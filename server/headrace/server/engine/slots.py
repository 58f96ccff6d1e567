"""A slot: one InferRequest of a model, with memory of its own for small inputs and for outputs."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from time import perf_counter

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.ports import Run, Tensor
from headrace.server.core.specs import Port
from headrace.server.engine.direct import Times
from headrace.server.engine.models import CompiledModel
from headrace.server.engine.strings import string_input, string_output
from headrace.server.engine.tensors import OutputTensor, as_bytes
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.tensors import Buffer

SMALL = 64 << 10
"""Bytes up to which a tensor is copied: giving the runtime another one costs 2 to 4 us."""

RELEASE = 10.0
"""Seconds that the runtime's thread may take to let go of a callback that has returned."""


@dataclass(slots=True)
class _Staged:
    """Memory of the slot's own that is set as an input, for small inputs to be copied to."""

    shape: tuple[int, ...]
    memory: memoryview


class Slot:
    """Runs one inference at a time. `on_completed` is called on a thread of the runtime's.

    What was set on an InferRequest stays set. So every input is written or set before each run, and
    every output has a scratch tensor of the slot's, which the run writes to. After the run a small
    output is copied out; a large one takes the scratch tensor with it, and the slot makes another.
    What nobody asked for is not read. Thus no later run writes to what was given out, and the
    InferRequest keeps nothing alive but the slot's own memory: inputs in place are views that own
    nothing, so their memory goes when the run has ended.
    """

    def __init__(self, model: CompiledModel, on_completed: Callable[[Slot], None]) -> None:
        self.run: Run | None = None
        self.stopping = False
        self._times = Times() if model.direct else None
        self._shapes: object = None
        self._began = 0.0
        self._passed = model.passed
        self._types = [port.get_element_type() for port in model.runtime.inputs]
        self._presets = [
            (compiled.get_element_type(), _preset(port))
            for compiled, port in zip(model.runtime.outputs, model.spec.outputs, strict=True)
        ]
        self._staged: list[_Staged | None] = [None] * len(model.spec.inputs)
        self._in_use: list[npt.NDArray[np.uint8]] = []
        self._has_variables = model.spec.has_variables
        self._outputs = model.spec.outputs
        computed = [port for port in self._outputs if port.index not in self._passed]
        self._dynamic = [port.index for port in computed if port.static_shape is None]
        self._oversized: set[int] = set()
        self._scratch: dict[int, ov.Tensor] = {}
        self._copied: dict[int, npt.NDArray[np.generic]] = {}
        self._request = model.runtime.create_infer_request()
        self._released = self._call_back(on_completed)
        for port in computed:
            self._renew(port.index)

    def _call_back(self, on_completed: Callable[[Slot], None]) -> Event:
        """Have the runtime call. The event is set when it has let go of the callback."""

        def completed(_: object) -> None:
            on_completed(self)

        released = Event()
        weakref.finalize(completed, released.set)
        self._request.set_callback(completed, None)
        return released

    def start(self, run: Run, *, alone: bool) -> bool:
        """Begin; true when the run has been done in place. `alone`: nothing else of this model runs.

        Raises what the runtime raises, and ValueError when bytes do not fit a shape.
        """
        assert self.run is None, f"{self!r} has a run already"
        self.run = run
        try:
            self._prepare(run)
            if self._times is None:
                self._request.start_async()
                return False
            return self._start_timed(run, self._times, alone)
        except BaseException:
            self.end(unread=True)
            raise

    def _start_timed(self, run: Run, times: Times, alone: bool) -> bool:
        references = run.references
        plan = run.plan
        self._shapes = (plan.shapes, tuple([each.shape for each in references])) if references else plan.shapes
        self._began = perf_counter()
        # A direct run would wait for one that is under way: a model compiled for direct runs has one thread.
        if alone and times.quick(self._shapes):
            # What it returns is made in any case, so at least of views: nobody looks at it.
            self._request.infer(share_outputs=True)
            times.in_place(self._shapes, perf_counter() - self._began)
            return True
        self._request.start_async()
        return False

    def completed(self) -> None:
        """The runtime has called. Called on a thread of its own."""
        if self._times is not None:
            self._times.handed_over(self._shapes, perf_counter() - self._began)

    def _prepare(self, run: Run) -> None:
        for port, shape, data in _inputs(run):
            self._feed(port, shape, data)
        if self._oversized:
            for port in (*run.plan.outputs, *run.plan.keep):
                if port.index in self._oversized:
                    self._renew(port.index)
        if self._has_variables:
            self._request.reset_state()

    def cancel(self) -> None:
        """Ask the runtime to stop. The result will not be read, even if it is there by now."""
        self.stopping = True
        self._request.cancel()

    def check(self) -> None:
        """Raises what the run failed with; does nothing while it runs and when it has completed."""
        self._request.wait_for(0)

    def end(self, *, unread: bool = False) -> None:
        """The run is over: let go of it and its inputs. `unread`: it may have written outputs."""
        if unread:
            self._oversized.update(self._dynamic)
        self.run = None
        self.stopping = False
        self._in_use.clear()

    def close(self) -> None:
        """Stop what runs and free the InferRequest. Blocks until the runtime lets go."""
        self._request.cancel()
        # wait() lets go of the GIL, which the callback needs; freeing an InferRequest does not.
        with suppress(RuntimeError):
            self._request.wait()
        # The InferRequest holds the callback and the slot, out of the garbage collector's sight.
        del self._request
        self.end()
        # The runtime's thread may be about to let go of the callback, and needs the GIL for that.
        # If the runtime were freed now, it would wait for that thread with the GIL in its hands; if
        # the callback was the last to hold it, that thread would free it and wait for itself.
        self._released.wait(RELEASE)

    def read(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The tensors of the run that has completed: of `plan.outputs`, and of `run.keep`."""
        run = self.run
        assert run is not None
        outputs = run.plan.outputs
        if not run.keep and (not self._dynamic or len(outputs) == len(self._outputs)):
            return [self._take(port, run) for port in outputs], ()
        kept = [run.plan.keep[position] for position in run.keep]
        taken: dict[int, Tensor] = {}
        for port in (*outputs, *kept):
            if port.index not in taken:
                taken[port.index] = self._take(port, run)
        # What was not looked at may have grown beyond what a later, smaller output should pin.
        self._oversized.update(index for index in self._dynamic if index not in taken)
        return [taken[port.index] for port in outputs], [taken[port.index] for port in kept]

    def _feed(self, port: Port, shape: tuple[int, ...], data: Buffer) -> None:
        """Make `data` an input. Its memory may be anywhere and of any alignment."""
        index = port.index
        if port.datatype is Datatype.BYTES:
            self._request.set_input_tensor(index, string_input(port.name, data, shape))
            return
        if len(data) <= SMALL:
            staged = self._staged[index]
            if staged is None or staged.shape != shape:
                staged = self._stage(port, shape)
            # Raises ValueError when the sizes differ.
            staged.memory[:] = data
            return
        array = np.frombuffer(data, np.uint8)
        # The runtime does not check it and would read beyond the end.
        if array.size != math.prod(shape) * ITEMSIZE[port.datatype]:
            raise ValueError(f"{array.size} bytes for input {port.name!r} of shape {list(shape)}")
        self._request.set_input_tensor(index, ov.Tensor(array, shape, self._types[index]))
        self._staged[index] = None
        self._in_use.append(array)

    def _stage(self, port: Port, shape: tuple[int, ...]) -> _Staged:
        memory = np.empty(math.prod(shape) * ITEMSIZE[port.datatype], np.uint8)
        tensor = ov.Tensor(memory, shape, self._types[port.index])
        self._request.set_input_tensor(port.index, tensor)
        staged = self._staged[port.index] = _Staged(shape, memory.data)
        return staged

    def _take(self, port: Port, run: Run) -> Tensor:
        """An output of the run, in memory that no later run writes to."""
        index = port.index
        copied = self._copied.get(index)
        if copied is not None:
            return OutputTensor(port.datatype, copied.shape, copied.tobytes())
        if index in self._passed:
            return self._pass(port, run)
        if port.datatype is Datatype.BYTES:
            return string_output(self._scratch[index])
        array = self._scratch[index].data
        if array.nbytes <= SMALL:
            return OutputTensor(port.datatype, array.shape, array.tobytes())
        self._renew(index)
        return OutputTensor(port.datatype, array.shape, as_bytes(array))

    def _pass(self, output: Port, run: Run) -> Tensor:
        """An output that is an input, which the caller may have in memory that is not to stay."""
        inputs = {port.index: (shape, data) for port, shape, data in _inputs(run)}
        shape, data = inputs[self._passed[output.index]]
        return OutputTensor(output.datatype, shape, bytes(data))

    def _renew(self, index: int) -> None:
        """Have the runtime write this output to new memory from now on."""
        scratch = ov.Tensor(*self._presets[index])
        self._request.set_output_tensor(index, scratch)
        self._scratch[index] = scratch
        self._oversized.discard(index)
        port = self._outputs[index]
        if port.static_shape is not None and port.datatype is not Datatype.BYTES and scratch.byte_size <= SMALL:
            self._copied[index] = scratch.data

    def __repr__(self) -> str:
        state = "free" if self.run is None else "stopping" if self.stopping else "running"
        return f"<Slot {state}>"


def _inputs(run: Run) -> Iterator[tuple[Port, tuple[int, ...], Buffer]]:
    """Every input of a run: its port, its shape and its bytes."""
    plan = run.plan
    for bound, data in zip(plan.inline, run.inline, strict=True):
        yield bound.port, bound.shape, data
    for reference, tensor in zip(plan.references, run.references, strict=True):
        yield reference.port, tensor.shape, tensor.read()
    for bound in plan.zeros:
        yield bound.port, bound.shape, bytes(bound.nbytes or 0)


def _preset(port: Port) -> ov.Shape:
    """The shape of new scratch tensors: dynamic dimensions start at 0, the runtime grows them."""
    if port.shape is None:
        return ov.Shape([0])
    return ov.Shape([dimension.min if dimension.static else 0 for dimension in port.shape])
