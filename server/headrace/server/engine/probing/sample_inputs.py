"""Sample inputs on which a model's rows are probed: ordinary, large and extreme ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from headrace.server.core.specs import Port
from headrace.server.engine.ports import row_bytes, row_shape
from headrace.wire.dtypes import ITEMSIZE, Datatype, numpy_dtype

SEED = 1
LARGE_FACTOR = 1e3

FLOATS = {Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.BF16}
Rows = npt.NDArray[np.uint8]
"""The bytes of a tensor: [rows, bytes of a row]. Bytes compare NaNs by their bits, and need no NumPy type of
bfloat16."""


class SampleInputs:
    """Random rows for each input, the same each time, and the results that each row gives when it runs alone.

    Floats are normally distributed, scaled by a thousand if `large`. Integers are 0 or 1, because they may be indices:
    1 with a probability of one half, or if `large` with a probability that each row draws. Those of the inputs in
    `numbers`, by index, are no indices, and of any size.
    """

    def __init__(
        self,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        max_rows: int,
        numbers: Collection[int] = (),
        *,
        large: bool,
    ) -> None:
        self.max_rows = max_rows
        self.alone = [np.empty((max_rows, row_bytes(port)), np.uint8) for port in outputs]
        """For each output, the result of each row that ran alone."""
        self.rows_run_alone = 0
        self._inputs = inputs
        self._numbers = numbers
        self._large = large
        self._values = [np.empty((max_rows, row_bytes(port)), np.uint8) for port in inputs]
        self._rows_drawn = 0
        self._random = np.random.default_rng(SEED + large)

    def rows(self, count: int) -> list[Rows]:
        """The first `count` rows of each input. Rows are drawn on first use, since most may never be needed."""
        for row in range(self._rows_drawn, count):
            for port, values in zip(self._inputs, self._values, strict=True):
                values[row] = self._row(port).view(np.uint8)
        self._rows_drawn = max(self._rows_drawn, count)
        return [values[:count] for values in self._values]

    def _row(self, port: Port) -> npt.NDArray[np.generic]:
        size = math.prod(row_shape(port))
        if port.datatype in FLOATS:
            numbers = self._random.standard_normal(size, np.float32) * np.float32(LARGE_FACTOR if self._large else 1)
            return numbers.astype(numpy_dtype(port.datatype))
        if port.index in self._numbers and port.datatype is not Datatype.BOOL:
            return np.frombuffer(self._random.bytes(size * ITEMSIZE[port.datatype]), numpy_dtype(port.datatype))
        probability = self._random.random() if self._large else 0.5
        return (self._random.random(size, np.float32) < probability).astype(numpy_dtype(port.datatype))


class Poison(Enum):
    """What fills a row that must not affect the others."""

    NAN = auto()
    INFINITY = auto()
    MINUS_INFINITY = auto()
    LARGEST_FINITE = auto()
    LARGE_SAMPLE = auto()
    """A row of the large sample inputs."""


def poisoned_rows(rows: int, random: np.random.Generator) -> Iterator[dict[int, Poison]]:
    """Which rows to poison with what, once for each run.

    Of two rows each is poisoned with everything, in case only one of them depends on the other (as in a cumulative
    sum). With more rows the question is only whether a kernel that computes several rows at once mixes them.
    """
    if rows == 2:
        for poison in Poison:
            yield {0: poison}
            yield {1: poison}
    else:
        first, second = random.permutation(rows)[:2].tolist()
        _, *others = Poison
        yield {first: Poison.NAN, second: others[rows % len(others)]}


def poison_row(port: Port, poison: Poison) -> Rows:
    """The bytes of a poisoned row. Integers are all 1 for large numbers, and otherwise all 0."""
    dtype = numpy_dtype(port.datatype)
    size = math.prod(row_shape(port))
    if port.datatype not in FLOATS:
        return np.full(size, poison in (Poison.INFINITY, Poison.LARGEST_FINITE), dtype).view(np.uint8)
    infinity = np.array(math.inf, dtype)
    values = {
        Poison.NAN: np.array(math.nan, dtype),
        Poison.INFINITY: infinity,
        Poison.MINUS_INFINITY: -infinity,
        Poison.LARGEST_FINITE: np.nextafter(infinity, np.array(0, dtype)),
    }
    return np.full(size, values[poison], dtype).view(np.uint8)
