"""Runs the examples of a group on hostile data: `python -m tests.server.engine.graph.safety.walk GROUP`."""

from __future__ import annotations

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
from tests.server.engine.walks import asynchronous, direct, walk

VARY = ("sums", "movement", "indexed", "recurrent")
"""Groups that have other kernels where shapes are not known beforehand; the first example of each is tried so too."""


class Both:
    """A model compiled for direct runs and for asynchronous runs."""

    def __init__(self, core: ov.Core, model: ov.Model) -> None:
        self.direct = direct(core, model)
        self.asynchronous = asynchronous(core, model)


def differs(left: Array, right: Array) -> bool:
    """Whether two results differ in any bit, except that every NaN equals every other."""
    if left.shape != right.shape:
        return True
    bits = f"u{left.itemsize}"
    same = left.view(bits) == right.view(bits) if left.shape else left.tobytes() == right.tobytes()
    return not np.all(same | ((left != left) & (right != right)))


def compare(both: Both, inputs: list[Array], others: tuple[list[Array], list[Array]]) -> str | None:
    """What is wrong with a run on these inputs, after runs on others that differ between the two sides, so that neither
    may pass with an earlier result. Raises what the asynchronous run raises."""
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
    """Where shapes follow although an axis is empty, and are accepted, the results must be right."""
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


def problems(core: ov.Core, key: str, index: int, example: Example) -> Iterator[dict[str, object]]:
    for dynamic in (False, True) if index == 0 and sys.argv[1] in VARY else (False,):
        for what, problem in wrong(core, key, example, dynamic):
            yield {"dynamic": dynamic, "what": what, "problem": problem}
    if key.split(".")[0] in FILLED:
        for what, problem in wrong_when_empty(core, example):
            yield {"what": what, "problem": problem}


def main() -> None:
    core = ov.Core()
    walk(
        (key, {"example": index}, problems(core, key, index, example))
        for key, examples in GROUPS[sys.argv[1]].items()
        for index, example in enumerate(examples)
    )


if __name__ == "__main__":
    main()
