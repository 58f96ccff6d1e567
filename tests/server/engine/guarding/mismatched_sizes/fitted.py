"""Operations whose inputs must match: models, matching shapes, and mismatched shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import (
    opset1,
    opset3,
    opset7,
    opset8,
    opset9,
    opset12,
    opset13,
    opset15,
)
from openvino.utils.node_factory import NodeFactory

from tests.server.engine.example import real, whole
from tests.server.engine.guarding.out_of_bounds.cases import Array

Shape = tuple[int, ...]
FILLED = 7


@dataclass(frozen=True, slots=True)
class Given:
    """An input: its matching shape, the value that fills it, and which of its axes are static in the model."""

    shape: Shape
    filled: float = FILLED
    type_name: str = "f32"
    known: tuple[int, ...] = ()

    def data(self, shape: Shape, numbered: bool = False) -> Array:
        found = np.full(shape, self.filled, getattr(ov.Type, self.type_name).to_dtype())
        if numbered and self.type_name == "f32":
            found += (np.arange(found.size, dtype=np.float32) % 5).reshape(shape)
        return found


@dataclass(frozen=True, slots=True)
class Fitting:
    """`odd`: mismatched shapes, for some inputs, by index. `within`: the range of results of inputs filled with 7."""

    given: tuple[Given, ...]
    odd: tuple[Mapping[int, Shape], ...]
    build: Callable[..., Any]
    within: tuple[float, float] = (0, FILLED)

    def model(self) -> ov.Model:
        parameters = [
            opset1.parameter(
                [size if axis in each.known else -1 for axis, size in enumerate(each.shape)],
                getattr(ov.Type, each.type_name),
            )
            for each in self.given
        ]
        built = self.build(*parameters)
        shown, sinks = built if isinstance(built, tuple) else (built, [])
        return ov.Model([opset1.result(shown)], sinks, parameters, "fitting")

    def ordinary(self) -> list[Array]:
        return [each.data(each.shape, numbered=True) for each in self.given]

    def mismatched(self, shapes: Mapping[int, Shape]) -> list[Array]:
        return [each.data(shapes.get(index, each.shape)) for index, each in enumerate(self.given)]


def floats(*shape: int, filled: float = FILLED, known: tuple[int, ...] = ()) -> Given:
    return Given(shape, filled, "f32", known)


def integers(*shape: int, filled: int = 0) -> Given:
    return Given(shape, filled, "i32")


def zeros(*shape: int) -> Given:
    return floats(*shape, filled=0)


def _detectron(name: str, inputs: Sequence[ov.Node], **attributes: Any) -> ov.Output:
    return (
        NodeFactory("opset6")
        .create(f"ExperimentalDetectron{name}", [each.output(0) for each in inputs], attributes)
        .output(0)
    )


def updated(axis: int, *reduction: str) -> Callable[..., Any]:
    opset = opset12 if reduction else opset3
    return lambda x, i, u: opset.scatter_elements_update(x, i, u, whole(axis), *reduction)


def _weighted(x: ov.Node, transposed: bool = False) -> ov.Node:
    return opset1.matmul(x, real(np.full((4, 5), 0.25)), transposed, False)


def _attended(q: ov.Node, k: ov.Node, v: ov.Node, mask: ov.Node) -> ov.Node:
    """Attention as exporters write it where they have no operation for it."""
    scores = opset1.add(opset1.matmul(q, k, False, True), mask)
    return opset1.matmul(opset8.softmax(scores, -1), v, False, False)


def _remembering(q: ov.Node, k: ov.Node, v: ov.Node, mask: ov.Node, order: ov.Node) -> tuple[ov.Node, list[ov.Node]]:
    """Attention with the keys and values of earlier runs."""
    caches, assigned = [], []
    for name, new in (("keys", k), ("values", v)):
        info = ov.op.util.VariableInfo()
        info.data_shape, info.data_type, info.variable_id = ov.PartialShape([-1, 2, -1, 16]), ov.Type.f32, name
        variable = ov.op.util.Variable(info)
        rows = opset8.gather(opset3.shape_of(new), whole([0]), whole(0))
        none = opset3.broadcast(real(0), opset1.concat([rows, whole([2, 0, 16])], 0))
        earlier = opset8.gather(opset15.read_value(none, variable), order, whole(0))
        caches.append(opset1.concat([earlier, new], 2))
        assigned.append(opset15.assign(caches[-1], variable))
    return opset13.scaled_dot_product_attention(q, *caches, mask), assigned


def _in_a_body(x: ov.Node, i: ov.Node, u: ov.Node) -> ov.Node:
    """A scatter in each of two bodies."""
    sure = opset1.equal(opset1.reduce_max(x, whole([0, 1]), False), real(FILLED))
    node = opset8.if_op(sure.output(0))
    inside = [[opset1.parameter([-1, -1], kind) for kind in (ov.Type.f32, ov.Type.i32, ov.Type.f32)] for _ in range(2)]
    bodies = [ov.Model([opset1.result(updated(1)(*each))], each, "body") for each in inside]
    node.set_then_body(bodies[0])
    node.set_else_body(bodies[1])
    for given, first, second in zip((x, i, u), *inside, strict=True):
        node.set_input(given.output(0), first, second)
    return node.set_output(*(body.get_results()[0] for body in bodies))


SCATTERED = (floats(3, 4), integers(3, 2), floats(3, 2))
LONGER = ({1: (200, 2), 2: (200, 2)}, {1: (5000, 2), 2: (5000, 2)}, {0: (1, 4)}, {1: (4, 2), 2: (4, 2)})
ATTENTION = (floats(2, 2, 4, 16), floats(2, 2, 6, 16), floats(2, 2, 6, 16), zeros(2, 1, 4, 6))
UNATTENDED: tuple[Mapping[int, Shape], ...] = (
    {2: (2, 2, 1, 16)},
    {2: (2, 2, 300, 16)},
    {0: (2, 2, 4, 1)},
    {1: (2, 2, 6, 1)},
)
NEW = (*(floats(2, 2, 3, 16, known=(1, 3)) for _ in range(3)), zeros(2, 1, 3, 3), integers(2))

FITTED: dict[str, Fitting] = {
    "ScatterElementsUpdate-3": Fitting(SCATTERED, LONGER, updated(1)),
    "ScatterElementsUpdate-3 along the first axis": Fitting(
        (floats(3, 4), integers(2, 4), floats(2, 4)),
        ({1: (2, 200), 2: (2, 200)}, {1: (2, 5000), 2: (2, 5000)}, {0: (3, 1)}),
        updated(0),
    ),
    "ScatterElementsUpdate-3 in bodies": Fitting(SCATTERED, LONGER, _in_a_body),
    "ScatterElementsUpdate-12": Fitting(SCATTERED, LONGER, updated(1, "mean")),
    "ScatterElementsUpdate-12 of three axes": Fitting(
        (floats(2, 3, 4), integers(2, 2, 4), floats(2, 2, 4)),
        ({1: (200, 2, 4), 2: (200, 2, 4)}, {1: (2, 2, 200), 2: (2, 2, 200)}, {0: (1, 3, 1)}),
        updated(1, "max"),
    ),
    "Gather-7 in batches": Fitting(
        (floats(3, 4), integers(3, 2)),
        ({0: (200, 4)}, {0: (5000, 4)}, {1: (1, 2)}, {1: (200, 2)}),
        lambda x, i: opset7.gather(x, i, whole(1), 1),
    ),
    "Gather-8 in batches of batches": Fitting(
        (floats(3, 4, 5), integers(3, 4, 2)),
        ({0: (200, 4, 5)}, {0: (3, 200, 5)}, {1: (1, 4, 2)}, {1: (3, 1, 2)}),
        lambda x, i: opset8.gather(x, i, whole(2), -1),
    ),
    "MatMul-1 by weights": Fitting((floats(3, 4),), ({0: (3, 1)}, {0: (5000, 1)}, {0: (3, 200)}), _weighted),
    "MatMul-1 by weights, transposed": Fitting(
        (floats(4, 3),), ({0: (1, 3)}, {0: (1, 5000)}, {0: (200, 3)}), lambda x: _weighted(x, transposed=True)
    ),
    "MatMul-1 by weights, and what is added": Fitting(
        (floats(3, 4), zeros(3, 5)),
        ({0: (3, 1)}, {0: (5000, 1), 1: (5000, 5)}),
        lambda x, y: opset1.relu(opset1.add(_weighted(x), y)),
    ),
    "MatMul-1 as attention": Fitting(ATTENTION, UNATTENDED, _attended),
    "ScaledDotProductAttention-13": Fitting(ATTENTION, UNATTENDED, opset13.scaled_dot_product_attention),
    "ScaledDotProductAttention-13 that remembers": Fitting(
        NEW, ({2: (2, 2, 300, 16)}, {2: (2, 2, 1, 16)}, {3: (2, 1, 3, 1)}), _remembering
    ),
    "GenerateProposals-9": Fitting(
        (
            floats(2, 3, filled=64, known=(1,)),
            floats(3, 3, 2, 4),
            floats(2, 8, 3, 3, filled=0.1),
            floats(2, 2, 3, 3, filled=0.5),
        ),
        ({0: (1, 3)}, {2: (1, 8, 3, 3)}, {3: (200, 2, 3, 3)}, {0: (200, 3), 3: (200, 2, 3, 3)}),
        lambda images, anchors, deltas, scores: opset9.generate_proposals(
            images, anchors, deltas, scores, 0.0, 0.7, 10, 5
        ).output(0),
        within=(0, 64),
    ),
    "ExperimentalDetectronTopKROIs-6": Fitting(
        (floats(4, 4), floats(4)),
        ({0: (1, 4)}, {0: (5000, 4)}, {1: (1,)}, {1: (5000,)}, {0: (1, 4), 1: (1,)}),
        lambda boxes, scores: _detectron("TopKROIs", (boxes, scores), max_rois=3),
        within=(FILLED, FILLED),
    ),
    "ExperimentalDetectronDetectionOutput-6": Fitting(
        (
            floats(4, 4, known=(1,)),
            floats(4, 12, filled=0.1, known=(1,)),
            floats(4, 3, filled=0.5, known=(1,)),
            floats(1, 3, filled=64, known=(0, 1)),
        ),
        ({0: (1, 4)}, {0: (5000, 4)}, {1: (1, 12)}, {2: (5000, 3)}),
        lambda *inputs: _detectron(
            "DetectionOutput",
            inputs,
            score_threshold=0.01,
            nms_threshold=0.5,
            num_classes=3,
            post_nms_count=5,
            max_detections_per_image=5,
            class_agnostic_box_regression=False,
            max_delta_log_wh=4.1,
            deltas_weights=[10.0, 10.0, 5.0, 5.0],
        ),
        within=(0, 64),
    ),
    "ExperimentalDetectronGenerateProposalsSingleImage-6": Fitting(
        (
            floats(3, filled=64, known=(0,)),
            floats(18, 4),
            floats(8, 3, 3, filled=0.1, known=(0,)),
            floats(2, 3, 3, filled=0.5, known=(0,)),
        ),
        ({1: (1, 4)}, {2: (8, 200, 3)}, {3: (2, 200, 3)}, {2: (8, 3, 200), 3: (2, 3, 200)}),
        lambda *inputs: _detectron(
            "GenerateProposalsSingleImage", inputs, min_size=0.0, nms_threshold=0.7, pre_nms_count=10, post_nms_count=5
        ),
        within=(0, 64),
    ),
    "NV12toBGR-8": Fitting(
        (Given((1, 4, 4, 1), 7, "u8", (1, 2, 3)), Given((1, 2, 2, 2), 128, "u8", (1, 2, 3))),
        ({0: (200, 4, 4, 1)}, {0: (5000, 4, 4, 1)}),
        opset8.nv12_to_bgr,
    ),
}
"""What the runtime does not check. Run with these shapes, it reads or writes beyond."""
