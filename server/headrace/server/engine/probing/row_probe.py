"""What a model computes from rows alone, together and among extreme ones, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from time import perf_counter

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.ports import row_shape
from headrace.server.engine.probing.sample_inputs import SEED, Poison, Rows, SampleInputs, poison_row, poisoned_rows
from headrace.wire.errors import quote

MAX_REPEAT_SECONDS = 1.0
"""How long a single run may take that repeats one whose result differed."""
MAX_TIMED_RUNS = 20
"""Of this many direct runs the fastest counts, of asynchronous ones the median: now and then an asynchronous run meets
a thread that is still awake, and takes a fifth of its usual time."""
TIMING_SECONDS = 0.04
"""After this time no further run is timed."""


class MixedRowsError(Exception):
    """A row depends on the contents of another. It may do so among fewer rows too, even where that did not show."""


class RowProbe:
    """Runs any number of rows in an InferRequest of its own."""

    def __init__(
        self,
        compiled: ov.CompiledModel,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        max_rows: int,
        numbers: Collection[int] = (),
    ) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = inputs
        self._outputs = outputs
        self._types = [compiled.inputs[port.index].get_element_type() for port in inputs]
        self._set: list[Rows] = []
        """The memory of the inputs, which the runtime does not keep alive."""
        self._ordinary = SampleInputs(inputs, outputs, max_rows, numbers, large=False)
        self._large = SampleInputs(inputs, outputs, max_rows, numbers, large=True)
        self._random = np.random.default_rng(SEED)
        self.cut_short = False
        """Whether a run had not ended at its deadline."""

    def time_runs(self, rows: int, in_place: bool, deadline: float) -> list[float]:
        """Seconds that each of a few runs takes. Raises MixedRowsError, TimeoutError and what the runtime raises."""
        self._run(self._ordinary.rows(rows), deadline)  # the first run of a shape is slow
        seconds: list[float] = []
        end = perf_counter() + TIMING_SECONDS
        for _ in range(MAX_TIMED_RUNS):
            began = perf_counter()
            if in_place:
                self._request.infer(share_outputs=True)
            else:
                self._request.start_async()
                self._request.wait()
            now = perf_counter()
            seconds.append(now - began)
            if now > end:
                break
        return seconds

    def find_difference(self, rows: int, deadline: float) -> str | None:
        """What differs from running alone when this number of rows runs together; None when nothing does.

        Raises MixedRowsError, TimeoutError and what the runtime raises.
        """
        for sample in (self._ordinary, self._large):
            self._run_alone(sample, rows, deadline)
        if rows == 1:
            return None
        every = np.arange(rows)
        # Reversing puts another row at every position except the middle one.
        for sample, order in ((self._ordinary, every), (self._large, every[::-1])):
            difference = self._compare(sample.rows(rows), sample, order, every, deadline)
            if difference is not None:
                return difference
        for poisoned in poisoned_rows(rows, self._random):
            others = np.array([row for row in range(rows) if row not in poisoned])
            difference = self._compare(self._poisoned(rows, poisoned), self._ordinary, every, others, deadline)
            if difference is not None:
                return difference
        return None

    def _run_alone(self, sample: SampleInputs, count: int, deadline: float) -> None:
        """Run the first `count` rows of a sample alone, and store their results in it."""
        if count <= sample.rows_run_alone:
            return
        # Some in advance: a run takes longer if its shape differs from that of the run before.
        count = min(2 * count, sample.max_rows)
        values = sample.rows(count)
        for row in range(sample.rows_run_alone, count):
            results = self._run([each[row : row + 1] for each in values], deadline)
            for alone, result in zip(sample.alone, results, strict=True):
                alone[row] = result[0]
        sample.rows_run_alone = count

    def _poisoned(self, rows: int, poisoned: Mapping[int, Poison]) -> list[Rows]:
        """Ordinary rows, some of them replaced by extreme ones."""
        values = [each.copy() for each in self._ordinary.rows(rows)]
        for port, each, large in zip(self._inputs, values, self._large.rows(rows), strict=True):
            for row, poison in poisoned.items():
                each[row] = large[row] if poison is Poison.LARGE_SAMPLE else poison_row(port, poison)
        return values

    def _compare(
        self,
        values: Sequence[Rows],
        sample: SampleInputs,
        order: npt.NDArray[np.int64],
        compared: npt.NDArray[np.int64],
        deadline: float,
    ) -> str | None:
        """Run rows in some order. Says what differs, at the `compared` positions, from what rows of the sample give."""
        values = [each[order] for each in values]
        results = self._run(values, deadline)
        for index, (result, alone) in enumerate(zip(results, sample.alone, strict=True)):
            same = (result[compared] == alone[order[compared]]).all(axis=1)
            if not same.all():
                return self._explain(int(compared[same.argmin()]), index, values, result)
        return None

    def _explain(self, position: int, index: int, values: Sequence[Rows], result: Rows) -> str:
        """Say that the number of rows makes the difference, as with a kernel that is chosen by it.

        Raises MixedRowsError when the contents of the others do: when the row among copies of itself gives another
        result.
        """
        seen = result[position].copy()
        output = f"output {quote(self._outputs[index].name)} of a row depends on"
        copies = [each[np.full(len(each), position)] for each in values]
        if not np.array_equal(self._run(copies, perf_counter() + MAX_REPEAT_SECONDS)[index][position], seen):
            raise MixedRowsError(f"{output} the other rows")
        return f"{output} the number of rows"

    def _run(self, values: Sequence[Rows], deadline: float) -> list[Rows]:
        """The outputs of a run, as views that last until the next one.

        Inputs are set, as slots set them. A request that uses tensors of its own may write to whatever memory another
        request has set for an input of dynamic shape, even after that was freed: the runtime (openvino 2026.4) takes it
        for its own.

        Raises MixedRowsError when the outputs have another number of rows, TimeoutError when the run has not ended at
        the deadline, and what the runtime raises.
        """
        self._set = [np.ascontiguousarray(each) for each in values]
        for port, element_type, data in zip(self._inputs, self._types, self._set, strict=True):
            tensor = ov.Tensor(data.reshape(-1), (len(data), *row_shape(port)), element_type)
            self._request.set_input_tensor(port.index, tensor)
        if not self._ends_by(deadline):
            self.cut_short = True
            raise TimeoutError
        return [self._result(port, len(self._set[0])) for port in self._outputs]

    def _ends_by(self, deadline: float) -> bool:
        """Run what has been set. A run that has not ended at the deadline is cancelled."""
        milliseconds_left = math.ceil((deadline - perf_counter()) * 1e3)
        if milliseconds_left <= 0:
            return False
        self._request.start_async()
        if self._request.wait_for(milliseconds_left):
            return True
        self._request.cancel()
        with suppress(RuntimeError):
            self._request.wait()
        return False

    def _result(self, port: Port, rows: int) -> Rows:
        tensor = self._request.get_output_tensor(port.index)
        if tuple(tensor.shape) != (rows, *row_shape(port)):
            raise MixedRowsError(f"output {quote(port.name)} does not have one row per input row")
        result: Rows = tensor.data.reshape(rows, -1).view(np.uint8)
        return result
