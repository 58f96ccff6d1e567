"""A slot: one InferRequest of a model, with memory of its own for small inputs and for outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter, thread_time

from headrace.server.core.engine_api import Part, Run, Tensor, Variables
from headrace.server.core.specs import Port
from headrace.server.engine.callbacks import call_back
from headrace.server.engine.decoding.decoder import Decoded
from headrace.server.engine.direct_runs import MAX_DIRECT_SECONDS, RunTimes
from headrace.server.engine.in_place import infer_in_place
from headrace.server.engine.inputs import Inputs, Shape
from headrace.server.engine.models import CompiledModel
from headrace.server.engine.outputs import Outputs
from headrace.server.engine.ports import row_shape
from headrace.server.engine.run_inputs import joined_shapes
from headrace.server.engine.variables import VariablesOf

CALLBACK_RELEASE_SECONDS = 10.0
"""How long the runtime's thread may take to release a callback that has returned."""
Outcome = tuple[Sequence[Sequence[Tensor]], Sequence[Sequence[Tensor]], tuple[float, float, float], Variables | None]
"""`sent`, `kept`, `times` and `variables` of `engine_api.Ended`."""


class Slot:
    """Runs one inference at a time. `on_completed` is called on a thread of the runtime.

    Tensors of an InferRequest stay set, so inputs and outputs are prepared before each run. The InferRequest keeps only
    the slot's own memory alive: large inputs are views that own nothing, so their memory is freed when the run has
    ended.

    Each slot of a dynamic model has a compiled model of its own. A run that raises, for whatever reason, has `spoiled`
    that compiled model and so the slot (see `restoring`).
    """

    def __init__(self, model: CompiledModel, on_completed: Callable[[Slot], None]) -> None:
        self.run: Run | None = None
        self.stopping = False
        self.spoiled = False
        self._failed_shapes: Mapping[Port, Shape] = {}
        """The input shapes of the run that has spoiled the slot, in which zeros may cleanse it."""
        self._takes_images = model.images is not None
        self.decoded: Decoded | None = None
        """What the images of the run have become."""
        self._closed = False
        self._on_completed = on_completed
        self._is_fragile = model.is_fragile
        self._accepts = model.accepts
        self._replacement_seconds = model.replacement_seconds
        self._interrupt_at = math.inf
        self._times = RunTimes() if model.spec.direct else None
        self._shapes: object = None
        self._input_seconds = 0.0
        self._began = self._completed = 0.0
        """When the last run that was handed over began and completed."""
        self._has_variables = model.spec.has_variables
        self._request = model.runtime.create_infer_request()
        self._variables = VariablesOf(self._request) if model.spec.sequences else None
        self._inputs = Inputs(model, self._request)
        self._outputs = Outputs(model, self._request)
        if self._times is not None:
            self._warm(model, self._times)
        self._callback_released = call_back(self._request, self._complete)  # last: with it, only `close` frees the slot

    def replacement(self, model: CompiledModel) -> Slot:
        """A slot with an unused compiled model, to take the place of this one. Raises what the runtime raises."""
        return Slot(model.recompiled(), self._on_completed)

    def _complete(self) -> None:
        """Called by the runtime on one of its threads."""
        if not self.spoiled:  # a spoiled slot only completes the run that cleanses it
            self._on_completed(self)

    def _warm(self, model: CompiledModel, times: RunTimes) -> None:
        """Run batches of every size, so that no ticket waits for the slow first run of a size."""
        self._outputs.unread()
        for rows in range(2, model.spec.batch + 1):
            self._inputs.feed_zeros({port: (rows, *row_shape(port)) for port in model.runtime_spec.inputs})
            for _ in range(2):
                began = perf_counter()
                infer_in_place(self._request)
            times.record_async(rows, perf_counter() - began)

    def warm_up(self, shapes: Mapping[Port, Shape], runs: int) -> None:
        """Run zeros, with an input of this shape for each port. Raises what the runtime raises."""
        self._outputs.unread()
        self._inputs.feed_zeros(shapes)
        self.spoiled = True  # so that these runs are nobody's
        for _ in range(runs):
            if self._has_variables:
                self._request.reset_state()
            self._request.start_async()
            self._request.wait()
        self.spoiled = False
        self._inputs.release()

    def start(self, run: Run, *, in_place: bool) -> Outcome | None:
        """Start a run. Returns its outcome if it was done in place.

        `in_place`: it may be, if it is quick. No other run of this model is in progress then: a model compiled for
        direct runs has one thread, for which a direct run would wait.

        Raises what the runtime raises, and ValueError when the bytes of an input do not match its shape.
        """
        assert self.run is None, f"{self!r} already has a run"
        self.run = run
        entered = perf_counter()
        reached_runtime = False
        try:
            self._prepare(run.parts)
            times = self._times
            in_place = in_place and times is not None and times.may_run_in_place(self._shapes)
            began = perf_counter()
            reached_runtime = True
            if times is None or not in_place:
                self._began, self._input_seconds = began, began - entered
                self._request.start_async()
                return None
            watched_from = thread_time() if times.suspects else None
            infer_in_place(self._request)
            completed = perf_counter()
            if watched_from is None:
                times.record_direct(self._shapes, completed - began)
            else:
                times.record_direct(self._shapes, completed - began, thread_time() - watched_from)
            sent, kept = self._outputs.read(run.parts, run.parts)
            variables = None if self._variables is None else self._read_variables(run)
            read = perf_counter()
        except BaseException:
            self.end(unread=True, raised=reached_runtime)
            raise
        self.end()
        return sent, kept, (began - entered, completed - began, read - completed), variables

    def hold(self, run: Run) -> None:
        """Take a run whose images are being decoded. Then `begin` follows, or `end`."""
        assert self.run is None, f"{self!r} already has a run"
        self.run = run

    @property
    def decoding(self) -> bool:
        """Whether the images of the run are being decoded, so that the runtime does not have it yet."""
        return self._takes_images and self.run is not None and self.decoded is None

    def begin(self, decoded: Decoded) -> None:
        """Start the run with its pixels. Raises what the runtime raises; then the run has ended."""
        entered = perf_counter()
        self.decoded = decoded
        reached_runtime = False
        try:
            self._prepare(decoded.parts)
            self._began = perf_counter()
            self._input_seconds = self._began - entered
            reached_runtime = True
            self._request.start_async()
        except BaseException:
            self.end(unread=True, raised=reached_runtime)
            raise

    def follow(self, run: Run) -> Outcome | None:
        """Do a run in place, right after another one in place. None when it must be started instead: it has not begun.

        Raises as `start` does. In a chain there are thousands of such runs per second.
        """
        entered = perf_counter()
        reached_runtime = False
        try:
            self._prepare(run.parts)
            times = self._times
            if times is None or not times.is_fast(self._shapes):
                return None
            began = perf_counter()
            reached_runtime = True
            watched_from = thread_time() if times.suspects else None
            infer_in_place(self._request)
            completed = perf_counter()
            if watched_from is not None:
                times.record_direct(self._shapes, completed - began, thread_time() - watched_from)
            elif completed - began > MAX_DIRECT_SECONDS:
                times.record_direct(self._shapes, completed - began)
            sent, kept = self._outputs.read(run.parts, run.parts)
            variables = None if self._variables is None else self._read_variables(run)
            return sent, kept, (began - entered, completed - began, perf_counter() - completed), variables
        except BaseException:
            self._outputs.unread()
            self.spoiled = self._is_fragile and reached_runtime
            raise
        finally:
            self._inputs.release()

    def _prepare(self, parts: Sequence[Part]) -> None:
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
        if self._variables is not None:
            self._variables.set(parts[0].variables)
        elif self._has_variables:
            self._request.reset_state()

    def _parts(self, run: Run) -> Sequence[Part]:
        """Those of the run, with pixels in place of images."""
        return run.parts if self.decoded is None else self.decoded.parts

    def _read_variables(self, run: Run) -> Variables | None:
        """What the variables hold after a run, if that is wanted: a model with variables has runs of one part."""
        (part,) = run.parts
        assert self._variables is not None
        return self._variables.held() if part.wants_variables else None

    def completed(self) -> None:
        """Note the time of a completion. Called on a thread of the runtime."""
        self._completed = perf_counter()
        if self._times is not None:
            self._times.record_async(self._shapes, self._completed - self._began)

    def cancel(self) -> None:
        """Make the run end soon. Its result will not be read, even if it has completed by now.

        Where stopping the run would spoil the slot, it may go on for as long as replacing the slot would take.
        """
        self.stopping = True
        if self.decoding:
            return
        if self._is_fragile:
            self._interrupt_at = perf_counter() + self._replacement_seconds
        else:
            self._request.cancel()

    def check(self) -> None:
        """Raise the error that the run failed with; do nothing while it runs and after it has completed."""
        if self.decoding:
            return  # the request has no run yet, and may still know how the one before has ended
        if self._interrupt_at <= perf_counter():
            self._interrupt_at = math.inf
            self._request.cancel()
        self._request.wait_for(0)

    def read(self) -> Outcome:
        """The outcome of a run that was handed over and has completed. Raises RuntimeError for one of wrong sizes."""
        assert self.run is not None
        entered = perf_counter()
        given = self.run.parts
        if self.decoded is not None:
            given = [given[position] for position in self.decoded.positions]
        sent, kept = self._outputs.read(self._parts(self.run), given)
        variables = None if self._variables is None else self._read_variables(self.run)
        return sent, kept, (self._input_seconds, self._completed - self._began, perf_counter() - entered), variables

    def end(self, *, unread: bool = False, raised: bool = False, cleansable: bool = False) -> None:
        """The run is over: release it and its inputs.

        `unread`: it may have written outputs that were not read. `raised`: the runtime raised, or the result has wrong
        sizes. `cleansable`: the runtime raised although the run was not stopped.
        """
        if unread:
            self._outputs.unread()
        if raised and cleansable and self._accepts is not None and self.run is not None:
            self._failed_shapes = joined_shapes(self._parts(self.run))
        self.run = None
        if self.decoded is not None:
            self.decoded.release()
            self.decoded = None
        self.stopping = False
        self.spoiled = self._is_fragile and raised
        self._interrupt_at = math.inf
        self._inputs.release()

    def cleanse(self) -> bool:
        """Run zeros in the shapes of the failed run. False when that is impossible or fails as well.

        Blocks for at most as long as compiling the model again would take. Not for the thread that starts runs.
        """
        shapes, self._failed_shapes = self._failed_shapes, {}
        # A Reshape that has failed because of its shapes may not check them again: zeros would seem to succeed.
        if (
            self._accepts is None
            or not shapes
            or not self._accepts({port.index: shape for port, shape in shapes.items()})
        ):
            return False
        try:
            self._inputs.feed_zeros(shapes)
            if self._has_variables:
                self._request.reset_state()
            self._request.start_async()
            if not self._request.wait_for(max(1, round(self._replacement_seconds * 1e3))):
                return False  # the runtime uses the inputs until the slot is closed
        except RuntimeError:
            return False
        self._outputs.unread()
        self._inputs.release()
        return True

    def release_memory(self) -> None:
        """Release what earlier runs have left behind and later ones can do without, unless a run is in progress."""
        if self.run is None and not self.spoiled:
            self._outputs.release_memory()

    def close(self) -> None:
        """Stop the run, if any, and free the InferRequest. Blocks until the runtime has ended the run. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._request.cancel()
        # wait() releases the GIL, which the callback needs; freeing an InferRequest does not.
        with suppress(RuntimeError):
            self._request.wait()
        self.end(raised=self.spoiled)
        # The InferRequest refers to the callback and so to the slot, which the garbage collector does not see.
        self._inputs.close()
        self._outputs.close()
        if self._variables is not None:
            self._variables.close()
        self._request = None
        # The runtime's thread may be about to release the callback, and needs the GIL for that. If the runtime were
        # freed now, it would wait for that thread while holding the GIL; if the callback held the last reference to
        # it, that thread would free the runtime and wait for itself.
        self._callback_released.wait(CALLBACK_RELEASE_SECONDS)

    def __repr__(self) -> str:
        state = "free" if self.run is None else "stopping" if self.stopping else "running"
        return f"<Slot {'spoiled' if self.spoiled else state}>"
