"""What a model makes of rows, alone, together and among extreme ones, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.ports import row_shape
from headrace.server.engine.probing.sample_inputs import SEED, Bytes, Draw, Poison, poison_row, poisoned_rows
from headrace.wire.errors import quote

AGAIN = 1.0
"""Seconds that a single run of what differed may take."""
RUNS = 20
"""Of so many direct runs the fastest counts, of asynchronous ones the median: now and then one meets a thread that is
still awake, and then it takes a fifth of what it takes otherwise."""
WINDOW = 0.04
"""Seconds after which no more of them are begun."""


class MixedRows(Exception):
    """A row depends on what is in another. Then it may do so among fewer rows too, even where it was not seen."""


class Trial:
    """An InferRequest of its own, for runs of any number of rows."""

    def __init__(self, compiled: ov.CompiledModel, inputs: Sequence[Port], outputs: Sequence[Port], most: int) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = inputs
        self._outputs = outputs
        self._types = [compiled.inputs[port.index].get_element_type() for port in inputs]
        self._set: list[Bytes] = []
        """The memory of the inputs, which the runtime does not keep alive."""
        self._ordinary = Draw(inputs, outputs, most, large=False)
        self._large = Draw(inputs, outputs, most, large=True)
        self._positions = np.random.default_rng(SEED)

    def seconds(self, rows: int, in_place: bool, deadline: float) -> list[float]:
        """How long each of a few runs takes. Raises MixedRows, TimeoutError and what the runtime raises."""
        self._run(self._ordinary.rows(rows), deadline)  # the first one of a shape is slow
        taken: list[float] = []
        end = perf_counter() + WINDOW
        for _ in range(RUNS):
            began = perf_counter()
            if in_place:
                self._request.infer(share_outputs=True)
            else:
                self._request.start_async()
                self._request.wait()
            now = perf_counter()
            taken.append(now - began)
            if now > end:
                break
        return taken

    def difference(self, rows: int, deadline: float) -> str | None:
        """What is not the same when so many rows run together.

        Raises MixedRows, TimeoutError and what the runtime raises.
        """
        for draw in (self._ordinary, self._large):
            self._run_alone(draw, rows, deadline)
        if rows == 1:
            return None
        every = np.arange(rows)
        # In another order there is another row at every position, but for one in the middle.
        for draw, order in ((self._ordinary, every), (self._large, every[::-1])):
            different = self._compare(draw.rows(rows), draw, order, every, deadline)
            if different is not None:
                return different
        for poisoned in poisoned_rows(rows, self._positions):
            others = np.array([row for row in range(rows) if row not in poisoned])
            different = self._compare(self._poisoned(rows, poisoned), self._ordinary, every, others, deadline)
            if different is not None:
                return different
        return None

    def _run_alone(self, draw: Draw, count: int, deadline: float) -> None:
        """Have the draw know what its first rows give alone."""
        if count <= draw.known:
            return
        # Some in advance: a run with another shape than the one before takes longer.
        count = min(2 * count, draw.most)
        values = draw.rows(count)
        for row in range(draw.known, count):
            results = self._run([each[row : row + 1] for each in values], deadline)
            for alone, result in zip(draw.alone, results, strict=True):
                alone[row] = result[0]
        draw.known = count

    def _poisoned(self, rows: int, poisoned: Mapping[int, Poison]) -> list[Bytes]:
        """The ordinary draw's rows, but for some that are extreme."""
        values = [each.copy() for each in self._ordinary.rows(rows)]
        for port, each, large in zip(self._inputs, values, self._large.rows(rows), strict=True):
            for row, poison in poisoned.items():
                each[row] = large[row] if poison is Poison.LARGE else poison_row(port, poison)
        return values

    def _compare(
        self,
        values: Sequence[Bytes],
        draw: Draw,
        order: npt.NDArray[np.int64],
        compared: npt.NDArray[np.int64],
        deadline: float,
    ) -> str | None:
        """Run rows in some order. Says what is not as each row of the draw gives alone, in the `compared` positions."""
        values = [each[order] for each in values]
        results = self._run(values, deadline)
        for index, (result, alone) in enumerate(zip(results, draw.alone, strict=True)):
            same = (result[compared] == alone[order[compared]]).all(axis=1)
            if not same.all():
                return self._explain(int(compared[same.argmin()]), index, values, result)
        return None

    def _explain(self, position: int, index: int, values: Sequence[Bytes], result: Bytes) -> str:
        """Say that it is the number of rows that counts, as with a kernel that is chosen by it.

        Raises MixedRows when it is what is in them: when the row among copies of itself gives something else.
        """
        seen = result[position].copy()
        output = f"output {quote(self._outputs[index].name)} of a row depends on"
        copies = [each[np.full(len(each), position)] for each in values]
        if not np.array_equal(self._run(copies, perf_counter() + AGAIN)[index][position], seen):
            raise MixedRows(f"{output} the others")
        return f"{output} how many there are"

    def _run(self, values: Sequence[Bytes], deadline: float) -> list[Bytes]:
        """The outputs of a run, as views that last until the next one.

        Inputs are set, as slots do it. A request that has tensors of its own writes to whatever memory another one has
        set for an input with a dynamic shape, even if that is freed: the runtime (2026.4) takes it for its own.

        Raises MixedRows when they do not have as many rows, TimeoutError when the run has not ended at the deadline,
        and what the runtime raises.
        """
        self._set = [np.ascontiguousarray(each) for each in values]
        for port, element_type, data in zip(self._inputs, self._types, self._set, strict=True):
            tensor = ov.Tensor(data.reshape(-1), (len(data), *row_shape(port)), element_type)
            self._request.set_input_tensor(port.index, tensor)
        left = math.ceil((deadline - perf_counter()) * 1e3)
        if left <= 0:
            raise TimeoutError
        self._request.start_async()
        if not self._request.wait_for(left):
            self._request.cancel()
            with suppress(RuntimeError):
                self._request.wait()
            raise TimeoutError
        return [self._result(port, len(self._set[0])) for port in self._outputs]

    def _result(self, port: Port, rows: int) -> Bytes:
        tensor = self._request.get_output_tensor(port.index)
        if tuple(tensor.shape) != (rows, *row_shape(port)):
            raise MixedRows(f"output {quote(port.name)} does not have a row for each of the inputs'")
        result: Bytes = tensor.data.reshape(rows, -1).view(np.uint8)
        return result
