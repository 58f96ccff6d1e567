"""Models in which data decide whether a tensor is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as op

Array = npt.NDArray[Any]
MOST = 8
"""Of elements along an axis that data take away."""


@dataclass(frozen=True, slots=True)
class Given:
    """An input of random numbers: floats from 1 to 2, integers below `below`. Data decide which part of `axis`
    remains."""

    shape: tuple[int, ...]
    axis: int | None = None
    dtype: type[np.generic] = np.float32
    below: int = 2

    def draw(self, random: np.random.Generator) -> Array:
        if self.dtype == np.float32:
            return random.random(self.shape, np.float32) + np.float32(1)
        return random.integers(0, self.below, self.shape).astype(self.dtype)


@dataclass(frozen=True, slots=True)
class Case:
    """`build` makes the outputs from what remains of the inputs; `empty` gives the outputs if nothing remains.
    `partly`: whether only a part may remain."""

    inputs: tuple[Given, ...]
    build: Callable[..., Any]
    empty: Callable[..., Sequence[Any]]
    partly: bool = True

    def model(self) -> ov.Model:
        """The model. Its last input has a number other than zero for each element that remains."""
        parameters = [op.parameter(list(given.shape), given.dtype) for given in self.inputs]
        kept = op.parameter([MOST], np.int64)
        built = self.build(
            *(
                node.output(0) if given.axis is None else _kept(node, kept, given.shape[given.axis], given.axis)
                for node, given in zip(parameters, self.inputs, strict=True)
            )
        )
        outputs = built if isinstance(built, list) else [built]
        return ov.Model([op.result(output) for output in outputs], [*parameters, kept], "case")


def _kept(node: ov.Node, kept: ov.Node, size: int, axis: int) -> ov.Output:
    first = op.slice(kept, np.array([0]), np.array([size]), np.array([1]))
    places = op.squeeze(op.non_zero(first, "i64"), np.array([0]))
    return op.gather(node, places, np.array(axis)).output(0)
