"""Runs the examples of a group on hostile data: `python -m tests.server.engine.graph.safety.walk GROUP`.

A process of its own, because a mistake may end it. Prints a line of JSON before each example, so that the last one
names what was tried, and one for whatever is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import numpy as np
import openvino as ov

from headrace.server.engine.graph.safety import why_unsafe
from headrace.server.engine.graph.shapes import FILLED
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from tests.server.engine.example import Example
from tests.server.engine.graph.safety.hostile import Array, empty, hostile, ordinary
from tests.server.engine.graph.safety.registry import GROUPS

ALONE = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
TOGETHER = ALONE | {"INFERENCE_NUM_THREADS": 2}
VARY = ("sums", "movement", "indexed", "recurrent")
"""Groups that have other kernels where shapes are not known beforehand; the first example of each is tried so too."""


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Both:
    """A model as direct runs have it, and as asynchronous runs have it."""

    def __init__(self, core: ov.Core, model: ov.Model) -> None:
        self._alone = core.compile_model(model, "CPU", ALONE).create_infer_request()
        self._together = core.compile_model(model, "CPU", TOGETHER).create_infer_request()

    def direct(self, data: list[Array]) -> list[Array]:
        self._alone.infer(data)
        return self._results(self._alone)

    def asynchronous(self, data: list[Array]) -> list[Array]:
        self._together.start_async(data)
        self._together.wait()
        return self._results(self._together)

    def _results(self, request: ov.InferRequest) -> list[Array]:
        return [np.array(tensor.data) for tensor in request.output_tensors]


def differs(left: Array, right: Array) -> bool:
    """Whether they do in any bit, but that NaN is NaN."""
    if left.shape != right.shape:
        return True
    bits = f"u{left.itemsize}"
    same = left.view(bits) == right.view(bits) if left.shape else left.tobytes() == right.tobytes()
    return not np.all(same | ((left != left) & (right != right)))


def compare(both: Both, inputs: list[Array], others: tuple[list[Array], list[Array]]) -> str | None:
    """What is wrong with a run on these inputs, after runs on others: each side another one, so that neither may
    answer with what it computed before. Raises what an asynchronous run does."""
    both.asynchronous(others[0])
    expected = both.asynchronous(inputs)
    both.direct(others[1])
    direct = both.direct(inputs)
    for index, (left, right) in enumerate(zip(direct, expected, strict=True)):
        if differs(left, right):
            return f"output {index} is {left.ravel()[:8]} directly and {right.ravel()[:8]} asynchronously"
    return None


def wrong(core: ov.Core, key: str, example: Example, dynamic: bool) -> Iterator[tuple[str, str]]:
    model = example.model()
    found = {f"{node.get_type_name()}.{node.get_type_info().version_id}" for node in model.get_ops()}
    if key not in found:
        yield "the example", f"is of {found}"
    if dynamic:
        model.reshape({port: ov.PartialShape([-1] * len(port.get_partial_shape())) for port in model.inputs})
    guard_bounds(model)
    unsafe = why_unsafe(model)
    if unsafe is not None:
        yield "the example", unsafe
    both = Both(core, model)
    others = ([ordinary(each, 1) for each in example.inputs], [ordinary(each, 2) for each in example.inputs])
    for what, data in hostile(example.inputs):
        try:
            problem = compare(both, data, others)
        except RuntimeError as error:
            problem = str(error).strip().splitlines()[-1]
        if problem is not None:
            yield what, problem


def wrong_when_empty(core: ov.Core, example: Example) -> Iterator[tuple[str, str]]:
    """Where the shapes follow although an axis is empty, and are accepted, so do the results."""
    model = example.model()
    try:
        model.reshape({port: ov.PartialShape([-1] * len(port.get_partial_shape())) for port in model.inputs})
        guard_bounds(model)
        both = Both(core, model)
    except RuntimeError:
        return  # only for shapes that are known
    others = ([ordinary(each, 1) for each in example.inputs], [ordinary(each, 2) for each in example.inputs])
    for what, data in empty(example.inputs):
        if not follows_when(model, data):
            continue
        try:
            problem = compare(both, data, others)
        except RuntimeError:
            both = Both(core, model)  # such a shape is refused, each time
        else:
            if problem is not None:
                yield what, problem


def follows_when(model: ov.Model, data: list[Array]) -> bool:
    clone = model.clone()
    try:
        clone.reshape({port: each.shape for port, each in zip(clone.inputs, data, strict=True)})
    except RuntimeError:
        return False
    return all(output.get_partial_shape().is_static for node in clone.get_ops() for output in node.outputs())


def main() -> None:
    core = ov.Core()
    for key, examples in GROUPS[sys.argv[1]].items():
        for index, example in enumerate(examples):
            say(begins=key, example=index)
            for dynamic in (False, True) if index == 0 and sys.argv[1] in VARY else (False,):
                for what, problem in wrong(core, key, example, dynamic):
                    say(operation=key, example=index, dynamic=dynamic, what=what, problem=problem)
            if key.split(".")[0] in FILLED:
                for what, problem in wrong_when_empty(core, example):
                    say(operation=key, example=index, what=what, problem=problem)
    say(ends=True)


if __name__ == "__main__":
    main()
