"""A model that runs batches, directly or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from headrace.server.core.specs import ModelSpec
from headrace.server.engine.tensors import MAX_COPIED_BYTES
from tests.server.engine.driver import Array, Driver, Inputs, Piece, Result, of, piece

ROWS = MAX_COPIED_BYTES // 64 + 1
"""Of 16 elements of f32: so many are large."""
Kind = Literal["direct", "async"]


def numbers(seed: int, rows: int, width: int = 16) -> Array:
    """Small integers, whose sum does not depend on the order of adding."""
    return np.random.default_rng(seed).integers(-9, 9, (rows, width)).astype(np.float32)


class Bench:
    """With `run="direct"` every asserted result comes from a run in place."""

    def __init__(self, driver: Driver, run: Kind, path: Path) -> None:
        self.driver = driver
        self.direct = run == "direct"
        self.spec: ModelSpec = driver.load(path, run=run)

    def batch(self, *pieces: Piece) -> list[Result]:
        run = of(*pieces)
        if self.direct:
            self.driver.warm_run(run)
        before = self.driver.in_place
        found = self.driver.batch(run)
        assert self.driver.in_place == before + self.direct
        return found

    def fails(self, *pieces: Piece) -> Exception:
        run = of(*pieces)
        ended = self.driver.engine.start(run) or self.driver.wait()[0]
        assert ended.run is run
        assert (ended.sent, ended.kept) == ((), ())
        assert ended.error is not None
        return ended.error

    def piece(self, inputs: Inputs, outputs: Sequence[str] | None = None, keep: Sequence[str] = ()) -> Piece:
        return piece(self.spec, inputs, outputs, keep)

    def pieces(self, *rows: int, outputs: Sequence[str] | None = None, keep: Sequence[str] = ()) -> list[Piece]:
        """Parts for `add_multiply`, each with numbers of its own."""
        inputs = [(numbers(part, count), numbers(part + 100, count)) for part, count in enumerate(rows)]
        one = self.piece({"x": inputs[0][0], "y": inputs[0][1]}, outputs, keep)
        # Of the same shapes they are inferences of one call, which has one plan.
        pieces = [one]
        for x, y in inputs[1:]:
            other = self.piece({"x": x, "y": y}, outputs, keep)
            if other.rows == one.rows:
                other.plan = one.plan
            pieces.append(other)
        return pieces


def contents(result: Result) -> list[tuple[tuple[int, ...], bytes]]:
    return [(tensor.shape, bytes(tensor.read())) for tensor in (*result.sent, *result.kept)]
