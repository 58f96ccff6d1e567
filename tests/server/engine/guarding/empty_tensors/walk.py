"""Runs guarded models on data that empty a tensor: `python -m tests.server.engine.guarding.empty_tensors.walk`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov

from headrace.server.engine.graph.traversal import graphs
from headrace.server.engine.guarding.empty_tensors.guards import guard_empty_tensors
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from headrace.server.engine.ports import ports_of
from tests.server.engine.guarding.empty_tensors.case import MOST, Case
from tests.server.engine.guarding.empty_tensors.cases import CASES, RIGHT
from tests.server.engine.walks import asynchronous, direct, walk

ALL, ONE, NONE = (np.arange(MOST) < count for count in (MOST, 1, 0))
KEPT = (ALL, NONE, ONE, NONE, NONE, ALL, NONE)
"""What is kept in one run after the other."""


def size(model: ov.Model) -> int:
    return sum(len(graph.get_ops()) for graph in graphs(model))


def wrong(core: ov.Core, case: Case, needs_guard: bool) -> Iterator[str]:
    model = case.model()
    guard_bounds(model)
    plain, before = direct(core, model), size(model)
    guard_empty_tensors(model, ports_of("case", "input", model.inputs))
    if (size(model) > before) != needs_guard:
        yield f"had {before} operations and has {size(model)}"
    for way in (direct, asynchronous):
        run, random = way(core, model), np.random.default_rng(1)
        for index, kept in enumerate(KEPT):
            if kept is ONE and not case.partly:
                continue
            data = [given.draw(random) for given in case.inputs]
            found = run([*data, kept.astype(np.int64)])
            expected = case.empty(*data) if kept is NONE else plain([*data, kept.astype(np.int64)])
            for left, right in zip(found, map(np.array, expected), strict=True):
                # Attention that is not computed as one is another in the last bits.
                if left.shape != right.shape or not np.allclose(left, right, rtol=1e-6, atol=1e-6):
                    what = f"is {left.ravel()[:6]} of {left.shape}, not {right.ravel()[:6]} of {right.shape}"
                    yield f"{way.__name__}, run {index}: {what}"


def main() -> None:
    core = ov.Core()
    walk(
        (name, {}, ({"problem": problem} for problem in wrong(core, case, needs_guard)))
        for cases, needs_guard in ((CASES, True), (RIGHT, False))
        for name, case in cases.items()
    )


if __name__ == "__main__":
    main()
