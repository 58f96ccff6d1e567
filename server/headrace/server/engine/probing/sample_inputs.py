"""Rows of inputs for models to be tried on: ordinary, large and extreme ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from headrace.server.core.specs import Port
from headrace.server.engine.ports import row_bytes, row_shape
from headrace.wire.dtypes import Datatype, numpy_dtype

SEED = 1

FLOATS = {Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.BF16}
Bytes = npt.NDArray[np.uint8]
"""Of a tensor: [rows, bytes of a row]. So NaNs are compared by their bits, and bfloat16 is as good as any."""


class Draw:
    """Rows of inputs at random, the same ones each time, and what each gives alone.

    Numbers are normally distributed, `large` ones a thousand times as far. Integers are 0 or 1, because they may be
    indices: one half of them each, and if `large` a share that is each row's own.
    """

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port], most: int, *, large: bool) -> None:
        self.most = most
        self.alone = [np.empty((most, row_bytes(port)), np.uint8) for port in outputs]
        self.known = 0
        """Of so many rows `alone` is known."""
        self._inputs = inputs
        self._large = large
        self._values = [np.empty((most, row_bytes(port)), np.uint8) for port in inputs]
        self._drawn = 0
        self._random = np.random.default_rng(SEED + large)

    def rows(self, count: int) -> list[Bytes]:
        """The first rows of each input. They are drawn when they are first asked for: most may never be."""
        for row in range(self._drawn, count):
            for port, values in zip(self._inputs, self._values, strict=True):
                values[row] = self._row(port).view(np.uint8)
        self._drawn = max(self._drawn, count)
        return [values[:count] for values in self._values]

    def _row(self, port: Port) -> npt.NDArray[np.generic]:
        size = math.prod(row_shape(port))
        if port.datatype in FLOATS:
            numbers = self._random.standard_normal(size, np.float32) * np.float32(1e3 if self._large else 1)
            return numbers.astype(numpy_dtype(port.datatype))
        share = self._random.random() if self._large else 0.5
        return (self._random.random(size, np.float32) < share).astype(numpy_dtype(port.datatype))


class Poison(Enum):
    """What is in a row that others must not feel."""

    NAN = auto()
    INFINITY = auto()
    MINUS_INFINITY = auto()
    LARGEST = auto()
    """The largest finite number."""
    LARGE = auto()
    """A row of the large draw."""


def poisoned_rows(rows: int, positions: np.random.Generator) -> Iterator[dict[int, Poison]]:
    """Which rows to poison, once for each run.

    Of two rows each is poisoned with everything, in case only the one depends on the other (a cumulative sum). Beyond
    that it is about kernels that compute a number of rows at once.
    """
    if rows == 2:
        for poison in Poison:
            yield {0: poison}
            yield {1: poison}
    else:
        first, second = positions.permutation(rows)[:2].tolist()
        _, *others = Poison
        yield {first: Poison.NAN, second: others[rows % len(others)]}


def poison_row(port: Port, poison: Poison) -> Bytes:
    """The bytes of a row; integers are all 1 for what is large, else all 0."""
    dtype = numpy_dtype(port.datatype)
    size = math.prod(row_shape(port))
    if port.datatype not in FLOATS:
        return np.full(size, poison in (Poison.INFINITY, Poison.LARGEST), dtype).view(np.uint8)
    infinity = np.array(math.inf, dtype)
    values = {
        Poison.NAN: np.array(math.nan, dtype),
        Poison.INFINITY: infinity,
        Poison.MINUS_INFINITY: -infinity,
        Poison.LARGEST: np.nextafter(infinity, np.array(0, dtype)),
    }
    return np.full(size, values[poison], dtype).view(np.uint8)
