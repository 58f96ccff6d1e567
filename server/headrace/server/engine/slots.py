"""A slot: one InferRequest of a model, with memory of its own for small inputs and for outputs."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event
from time import perf_counter

from headrace.server.core.engine_api import Run, Tensor
from headrace.server.core.specs import Port
from headrace.server.engine.direct_runs import RunTimes, infer_in_place
from headrace.server.engine.inputs import Inputs, Shape
from headrace.server.engine.models import CompiledModel
from headrace.server.engine.outputs import Outputs
from headrace.server.engine.ports import row_shape
from headrace.server.engine.run_inputs import joined_shapes

RELEASE = 10.0
"""Seconds that the runtime's thread may take to let go of a callback that has returned."""
Outcome = tuple[Sequence[Sequence[Tensor]], Sequence[Sequence[Tensor]], tuple[float, float, float]]
"""`sent`, `kept` and `times` of `ports.Ended`."""


class Slot:
    """Runs one inference at a time. `on_completed` is called on a thread of the runtime's.

    What was set on an InferRequest stays set, so inputs and outputs are seen to before each run. The InferRequest keeps
    nothing alive but the slot's own memory: inputs in place are views that own nothing, so their memory goes when the
    run has ended.

    The slots of a dynamic model have a compiled model each. A run of it that raises, for whatever reason, has `spoiled`
    that, and the slot with it (engine/restoring.py).
    """

    def __init__(self, model: CompiledModel, on_completed: Callable[[Slot], None]) -> None:
        self.run: Run | None = None
        self.stopping = False
        self.spoiled = False
        self._suspect: Mapping[Port, Shape] = {}
        """The shapes in which zeros may cleanse what a run has spoiled."""
        self._closed = False
        self._on_completed = on_completed
        self._fragile = model.fragile
        self._takes = model.takes
        self._patience = model.patience
        self._interrupt_at = math.inf
        self._times = RunTimes() if model.spec.direct else None
        self._shapes: object = None
        self._input_seconds = 0.0
        self._began = self._completed = 0.0
        """When the run that was handed over did so."""
        self._has_variables = model.spec.has_variables
        self._request = model.runtime.create_infer_request()
        self._inputs = Inputs(model, self._request)
        self._outputs = Outputs(model, self._request)
        self._released = self._call_back(on_completed)
        if self._times is not None:
            self._warm(model, self._times)

    def another(self, model: CompiledModel) -> Slot:
        """A slot to take the place of this one, which is closed, with a compiled model that nobody has used."""
        return Slot(model.another(), self._on_completed)

    def _call_back(self, on_completed: Callable[[Slot], None]) -> Event:
        """Have the runtime call. The event is set when it has let go of the callback."""

        def completed(_: object) -> None:
            if not self.spoiled:  # or it has just been cleansed
                on_completed(self)

        released = Event()
        weakref.finalize(completed, released.set)
        self._request.set_callback(completed, None)
        return released

    def _warm(self, model: CompiledModel, times: RunTimes) -> None:
        """Run batches of every size, so that none has its slow first run when somebody waits."""
        self._outputs.unread()
        for rows in range(2, model.spec.batch + 1):
            self._inputs.feed_zeros({port: (rows, *row_shape(port)) for port in model.spec.inputs})
            for _ in range(2):
                began = perf_counter()
                infer_in_place(self._request)
            times.record_async(rows, perf_counter() - began)

    def start(self, run: Run, *, alone: bool) -> Outcome | None:
        """Begin; the outcome when the run has been done in place. `alone`: nothing else of this model runs.

        Raises what the runtime raises, and ValueError when bytes do not fit a shape.
        """
        assert self.run is None, f"{self!r} has a run already"
        self.run = run
        entered = perf_counter()
        asked = False
        try:
            self._prepare(run)
            # A direct run would wait for one that is under way: a model compiled for direct runs has one thread.
            times = self._times if alone else None
            in_place = times is not None and times.may_run_in_place(self._shapes)
            began = perf_counter()
            asked = True
            if times is None or not in_place:
                self._began, self._input_seconds = began, began - entered
                self._request.start_async()
                return None
            infer_in_place(self._request)
            completed = perf_counter()
            times.record_direct(self._shapes, completed - began)
            sent, kept = self._outputs.read(run.parts)
            read = perf_counter()
        except BaseException:
            self.end(unread=True, raised=asked)
            raise
        self.end()
        return sent, kept, (began - entered, completed - began, read - completed)

    def follow(self, run: Run) -> Outcome | None:
        """Do a run in place, right after another that was. None when it must be started: then it has not begun.

        Raises as `start`. There are thousands a second, in a chain.
        """
        entered = perf_counter()
        asked = False
        try:
            self._prepare(run)
            times = self._times
            if times is None or not times.is_fast(self._shapes):
                return None
            began = perf_counter()
            asked = True
            infer_in_place(self._request)
            completed = perf_counter()
            sent, kept = self._outputs.read(run.parts)
            return sent, kept, (began - entered, completed - began, perf_counter() - completed)
        except BaseException:
            self._outputs.unread()
            self.spoiled = self._fragile and asked
            raise
        finally:
            self._inputs.let_go()

    def _prepare(self, run: Run) -> None:
        parts = run.parts
        if len(parts) > 1:
            self._shapes = rows = sum([part.rows for part in parts])
            self._inputs.feed_batch(parts, rows)
        else:
            (part,) = parts
            plan, references = part.plan, part.references
            assert plan is not None
            self._shapes = plan.shapes if plan.fixed else (plan.shapes, *[each.shape for each in references])
            self._inputs.feed(part)
        self._outputs.prepare(parts)
        if self._has_variables:
            self._request.reset_state()

    def completed(self) -> None:
        """The runtime has called. Called on a thread of its own."""
        self._completed = perf_counter()
        if self._times is not None:
            self._times.record_async(self._shapes, self._completed - self._began)

    def cancel(self) -> None:
        """Have the run end soon. The result will not be read, even if it is there by now.

        Where stopping it would spoil the slot, it may go on for as long as making another one takes.
        """
        self.stopping = True
        if self._fragile:
            self._interrupt_at = perf_counter() + self._patience
        else:
            self._request.cancel()

    def check(self) -> None:
        """Raises what the run failed with; does nothing while it runs and when it has completed."""
        if self._interrupt_at <= perf_counter():
            self._interrupt_at = math.inf
            self._request.cancel()
        self._request.wait_for(0)

    def read(self) -> Outcome:
        """The outcome of a run that was handed over and has completed."""
        assert self.run is not None
        entered = perf_counter()
        sent, kept = self._outputs.read(self.run.parts)
        return sent, kept, (self._input_seconds, self._completed - self._began, perf_counter() - entered)

    def end(self, *, unread: bool = False, raised: bool = False, cleansable: bool = False) -> None:
        """The run is over: let go of it and its inputs.

        `unread`: it may have written outputs. `raised`: the runtime did, or its result cannot be. `cleansable`: it was
        the runtime, and nobody had stopped it.
        """
        if unread:
            self._outputs.unread()
        if raised and cleansable and self._takes is not None and self.run is not None:
            self._suspect = joined_shapes(self.run.parts)
        self.run = None
        self.stopping = False
        self.spoiled = self._fragile and raised
        self._interrupt_at = math.inf
        self._inputs.let_go()

    def cleanse(self) -> bool:
        """Run zeros in the shapes of the run that has failed. False when that cannot be or fails, too.

        Blocks for as long as making another compiled model would take. Not for the thread that starts runs.
        """
        shapes, self._suspect = self._suspect, {}
        # A Reshape that has failed for its shapes may not check them again: zeros would seem to be right.
        if self._takes is None or not shapes or not self._takes({port.index: shape for port, shape in shapes.items()}):
            return False
        try:
            self._inputs.feed_zeros(shapes)
            if self._has_variables:
                self._request.reset_state()
            self._request.start_async()
            if not self._request.wait_for(max(1, round(self._patience * 1e3))):
                return False  # the runtime has the memory until it is closed
        except RuntimeError:
            return False
        self._outputs.unread()
        self._inputs.let_go()
        return True

    def close(self) -> None:
        """Stop what runs and free the InferRequest. Blocks until the runtime lets go. Harmless when it is closed."""
        if self._closed:
            return
        self._closed = True
        self._request.cancel()
        # wait() lets go of the GIL, which the callback needs; freeing an InferRequest does not.
        with suppress(RuntimeError):
            self._request.wait()
        self.end(raised=self.spoiled)
        # The InferRequest holds the callback and the slot, out of the garbage collector's sight.
        self._inputs.close()
        self._outputs.close()
        del self._request
        # The runtime's thread may be about to let go of the callback, and needs the GIL for that.
        # If the runtime were freed now, it would wait for that thread with the GIL in its hands; if
        # the callback was the last to hold it, that thread would free it and wait for itself.
        self._released.wait(RELEASE)

    def __repr__(self) -> str:
        state = "free" if self.run is None else "stopping" if self.stopping else "running"
        return f"<Slot {'spoiled' if self.spoiled else state}>"
