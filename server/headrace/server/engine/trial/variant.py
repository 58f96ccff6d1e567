"""Whether a variant of a model, which computes only some of its outputs, gives the same bits, and saves enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter, process_time

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.findings import Findings
from headrace.server.engine.in_place import infer_in_place
from headrace.server.engine.models import CompiledModel, Progress, compile_model
from headrace.server.engine.ports import row_shape
from headrace.server.engine.trial.messages import TrialRequest
from headrace.server.engine.trial.sizes import FLOATS, Shapes, combinations, sample, shape_text, zeros
from headrace.wire.dtypes import numpy_dtype
from headrace.wire.errors import FailedPrecondition, quote

MIN_SAVED = 0.1
"""The part of a run's processor time that a variant has to save."""
TIMED_RUNS = 5
"""Of this many more runs of one shape the fastest counts."""
SECONDS = 10.0
"""How long comparing may take. Shapes that were not reached are taken to be as those that were."""
MIN_SAMPLES, MAX_SAMPLES, SAMPLED_RUNS = 8, 256, 1000
"""Random inputs of each shape, and of all together: other rounding shows in few of the numbers that a small output can
be."""
SCALES = (1.0, 1e3, 1e-3, 1e-39, 1e8)
"""What random numbers are multiplied by, in turns. The fourth makes them denormal."""

Bits = npt.NDArray[np.uint8]
Make = Callable[[Port, int], Bits]


def compile_both(core: ov.Core, request: TrialRequest, progress: Progress) -> tuple[CompiledModel, CompiledModel]:
    """The model as it serves, and its variant, which is measured as a model is.

    A model that runs directly, or in batches, has been measured. Its variant takes less time, so only whether it *may*
    run so is tried again, not whether that pays: beside clients that keep the processor busy, it might seem not to.

    Raises FailedPrecondition, also if the variant cannot run as the model does.
    """
    found = request.findings
    assert found is not None
    where = request.name, request.version, request.path
    full = compile_model(core, *where, request.compilation, findings=found, progress=progress)
    compilation = _as_found(request.compilation, found)
    variant = compile_model(core, *where, compilation, progress=progress, outputs=request.outputs)
    if full.spec.direct and not variant.spec.direct:
        raise FailedPrecondition(f"it does not run directly: {variant.spec.direct_reason}")
    if variant.spec.batch < full.spec.batch:
        raise FailedPrecondition(f"a run of it has fewer rows: {variant.spec.batch_reason}")
    return full, variant


def _as_found(compilation: Compilation, found: Findings) -> Compilation:
    if found.direct:
        compilation = replace(compilation, run="direct")
    return replace(compilation, batch=found.batch) if found.batch > 1 else compilation


class Comparison:
    """Runs a model and its variant on the same inputs. It must be kept until the process ends, as a `SizeRunner`."""

    def __init__(self, full: CompiledModel, variant: CompiledModel) -> None:
        outputs = variant.spec.pruned_to
        self._model = full
        self._variant = variant
        self._full_runner = _Runner(full, outputs)
        self._variant_runner = _Runner(variant, range(len(outputs)))
        self._types = [port.get_element_type() for port in full.runtime.inputs]
        self._full_seconds = self._variant_seconds = 0.0
        """The processor time of one run of each in every shape that was timed."""

    def compare(self, progress: Progress, seconds: float = SECONDS) -> None:
        """Run zeros, random numbers and NaN in many shapes, in each way in which clients' runs will go.

        Raises FailedPrecondition when a result differs, when the variant fails where the model does not, when nothing
        could be compared in the time, and when it saves too little.
        """
        began = perf_counter()
        deadline = began + seconds
        every = [*self._shapes()]
        for shapes in every:
            progress(f"its results for {_text(shapes)} are compared")
            # The first run of a shape is slow.
            if self._run_both(shapes, zeros, deadline) and (times := self._run_both(shapes, sample, deadline)):
                self._time(shapes, times, deadline)
                self._run_both(shapes, _special, deadline)
        progress("its results for more numbers are compared")
        deadline = began + seconds / 2
        for seed in range(1, max(MIN_SAMPLES, min(MAX_SAMPLES, SAMPLED_RUNS // max(1, len(every))))):
            for shapes in every:
                self._run_both(shapes, partial(sample, seed=seed, scale=SCALES[seed % len(SCALES)]), deadline)
        if not self._full_seconds:
            raise FailedPrecondition("its results could not be compared: runs fail, or take too long")
        saved = 1 - self._variant_seconds / self._full_seconds
        if saved < MIN_SAVED:
            raise FailedPrecondition(f"it saves {max(0.0, saved):.0%} of a run")

    def _shapes(self) -> Iterator[Shapes]:
        inputs, accepts = self._model.runtime_spec.inputs, self._model.accepts
        for shapes in combinations(inputs):
            if accepts is None or accepts(dict(enumerate(shapes))):
                yield shapes
        for rows in range(2, self._variant.spec.batch + 1):
            yield tuple((rows, *row_shape(port)) for port in inputs)

    def _run_both(self, shapes: Shapes, make: Make, deadline: float) -> tuple[float, float] | None:
        """Compare the results of the same run in each way. Returns the processor time of the model and of the variant;
        None when there was nothing to compare, because the model fails, or the time is up."""
        if perf_counter() >= deadline:
            return None
        inputs = self._inputs(shapes, make)
        full, variant = self._full_runner, self._variant_runner
        try:
            full_seconds = full.run(inputs, deadline, in_place=self._model.spec.direct)
            if not math.isfinite(full_seconds):
                return None
        except RuntimeError:
            full.renew()
            return None
        expected = full.results()
        variant_seconds = math.inf
        for in_place in (False, True) if self._variant.spec.direct else (False,):
            try:
                variant_seconds = variant.run(inputs, deadline, in_place=in_place)
            except RuntimeError as error:
                raise FailedPrecondition(f"a run of {_text(shapes)} fails, which the model does not") from error
            if not math.isfinite(variant_seconds):
                return None
            for port, one, other in zip(self._variant.spec.outputs, expected, variant.results(), strict=True):
                if one != other:
                    raise FailedPrecondition(f"for {_text(shapes)} output {quote(port.name)} has other bits")
        return full_seconds, variant_seconds

    def _time(self, shapes: Shapes, times: tuple[float, float], deadline: float) -> None:
        """Add the shortest processor times of a few runs in the way in which each will run: larger shapes count
        more."""
        inputs = self._inputs(shapes, sample)
        full, variant = times
        for _ in range(TIMED_RUNS):
            if perf_counter() >= deadline:
                break
            full = min(full, self._full_runner.run(inputs, deadline, in_place=self._model.spec.direct))
            variant = min(variant, self._variant_runner.run(inputs, deadline, in_place=self._variant.spec.direct))
        self._full_seconds += full
        self._variant_seconds += variant

    def _inputs(self, shapes: Shapes, make: Make) -> list[_Input]:
        inputs: list[_Input] = []
        for port, shape in zip(self._model.runtime_spec.inputs, shapes, strict=True):
            data = make(port, math.prod(shape))
            inputs.append(_Input(port.index, data, ov.Tensor(data, shape, self._types[port.index])))
        return inputs


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of a run, with its memory, which the runtime does not keep alive."""

    index: int
    data: Bits
    tensor: ov.Tensor


class _Runner:
    """Runs a compiled model in an InferRequest of its own."""

    def __init__(self, model: CompiledModel, outputs: Sequence[int]) -> None:
        self._model = model
        self._outputs = outputs
        self._request = model.runtime.create_infer_request()
        self._inputs: list[_Input] = []

    def run(self, inputs: list[_Input], deadline: float, *, in_place: bool = False) -> float:
        """Run once. Returns the processor time of all threads; infinity when the run has not ended at the deadline.

        Raises what the runtime raises.
        """
        for each in inputs:
            self._request.set_input_tensor(each.index, each.tensor)
        self._inputs = inputs
        began = process_time()
        if in_place:
            infer_in_place(self._request)
        else:
            self._request.start_async()
            if not self._request.wait_for(max(1, round((deadline - perf_counter()) * 1e3))):
                return math.inf
        return process_time() - began

    def results(self) -> list[tuple[tuple[int, ...], bytes]]:
        """The shapes and bytes of the outputs of the last run."""
        tensors = [self._request.get_output_tensor(index) for index in self._outputs]
        return [(tuple(each.shape), each.data.tobytes()) for each in tensors]

    def renew(self) -> None:
        """A run has raised, which may have spoiled the compiled model."""
        if self._model.compile is not None:
            self._request = self._model.compile().create_infer_request()


def _text(shapes: Shapes) -> str:
    return f"inputs of {', '.join(map(shape_text, shapes))}" if shapes else "no inputs"


def _special(port: Port, elements: int) -> Bits:
    """As `sample`, with NaN and infinities among the floats; integers of 0."""
    if port.datatype not in FLOATS:
        return zeros(port, elements)
    numbers = sample(port, elements).view(numpy_dtype(port.datatype))
    for number, special in enumerate((math.nan, math.inf, -math.inf)):
        numbers[number::7] = special
    return numbers.view(np.uint8)
