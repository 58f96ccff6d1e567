"""Runs guarded models on data that empty a tensor: `python -m tests.server.engine.guarding.empty_tensors.walk`.

A process of its own, because a mistake may end it. Prints a line of JSON before each model, so that the last one names
what was tried, and one for whatever is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import openvino as ov

from headrace.server.engine.graph.traversal import graphs
from headrace.server.engine.guarding.empty_tensors.guards import guard_empty_tensors
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from headrace.server.engine.ports import ports_of
from tests.server.engine.guarding.empty_tensors.case import MOST, Array, Case
from tests.server.engine.guarding.empty_tensors.cases import CASES, RIGHT

ALONE = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
TOGETHER = ALONE | {"INFERENCE_NUM_THREADS": 2}
ALL, ONE, NONE = (np.arange(MOST) < count for count in (MOST, 1, 0))
KEPT = (ALL, NONE, ONE, NONE, NONE, ALL, NONE)
"""What is kept in one run after the other."""

Run = Callable[[list[Array]], list[Array]]


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def direct(core: ov.Core, model: ov.Model) -> Run:
    request = core.compile_model(model, "CPU", ALONE).create_infer_request()

    def run(data: list[Array]) -> list[Array]:
        request.infer(data)
        return [np.array(tensor.data) for tensor in request.output_tensors]

    return run


def asynchronous(core: ov.Core, model: ov.Model) -> Run:
    request = core.compile_model(model, "CPU", TOGETHER).create_infer_request()

    def run(data: list[Array]) -> list[Array]:
        request.start_async(data)
        request.wait()
        return [np.array(tensor.data) for tensor in request.output_tensors]

    return run


def size(model: ov.Model) -> int:
    return sum(len(graph.get_ops()) for graph in graphs(model))


def wrong(core: ov.Core, case: Case, needed: bool) -> Iterator[str]:
    model = case.model()
    guard_bounds(model)
    plain, before = direct(core, model), size(model)
    guard_empty_tensors(model, ports_of("case", "input", model.inputs))
    if (size(model) > before) != needed:
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
    for cases, needed in ((CASES, True), (RIGHT, False)):
        for name, case in cases.items():
            say(begins=name)
            for problem in wrong(core, case, needed):
                say(case=name, problem=problem)
    say(ends=True)


if __name__ == "__main__":
    main()
