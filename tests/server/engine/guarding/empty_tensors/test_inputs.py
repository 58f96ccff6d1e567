"""Empty inputs: accepted where the result is right, refused where it would be an earlier run's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.core.specs import Dimension
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model

ANY, NOT_EMPTY = Dimension(0, -1), Dimension(1, -1)
NOTHING = np.zeros((0, 3), np.float32)


def load(
    folder: Path, build: Callable[..., Any], *shapes: list[int]
) -> tuple[list[tuple[Dimension, ...] | None], ov.CompiledModel]:
    parameters = [op.parameter(shape, np.float32) for shape in shapes]
    path = folder / "model.xml"
    ov.save_model(ov.Model([op.result(build(*parameters))], parameters, "model"), path, compress_to_fp16=False)
    model = compile_model(ov.Core(), "m", "1", path, Compilation(run="async", batch=1))
    return [port.shape for port in model.spec.inputs], model.runtime


@pytest.mark.parametrize(
    "build",
    [
        lambda x: op.gather(x, np.array([0, 0]), np.array(0)),
        lambda x: op.topk(x, np.array(1), 0, "max", "value").output(0),
        lambda x: op.gather_nd(x, np.array([[0, 0]]), 0),
        lambda x: op.unique(x).output(0),
    ],
    ids=["Gather", "TopK", "GatherND", "Unique"],
)
def test_an_empty_input_that_would_get_an_earlier_result_is_refused(tmp_path: Path, build: Callable[..., Any]) -> None:
    shapes, _ = load(tmp_path, build, [-1, 3])
    assert shapes == [(NOT_EMPTY, Dimension(3, 3))]


def test_one_empty_axis_of_several_is_refused(tmp_path: Path) -> None:
    """With both axes empty the result is empty as well: two rows of nothing."""
    shapes, _ = load(tmp_path, lambda x: op.gather(x, np.array([0, 0]), np.array(0)), [-1, -1])
    assert shapes == [(NOT_EMPTY, NOT_EMPTY)]


def test_an_empty_input_that_gets_the_right_result_is_accepted(tmp_path: Path) -> None:
    shapes, runtime = load(tmp_path, lambda x: op.reduce_sum(op.exp(x), np.array([0])), [-1, 3])
    assert shapes == [(ANY, Dimension(3, 3))]
    request = runtime.create_infer_request()
    assert (request.infer([np.zeros((2, 3), np.float32)])[0] == 2).all()
    assert request.infer([NOTHING])[0].tolist() == [0, 0, 0]


def test_mismatched_sizes_do_not_count(tmp_path: Path) -> None:
    """One input cannot be empty without the other, so only both together count."""
    shapes, runtime = load(tmp_path, lambda x, y: op.matmul(x, y, True, False), [-1, 3], [-1, 2])
    assert shapes == [(ANY, Dimension(3, 3)), (ANY, Dimension(2, 2))]
    request = runtime.create_infer_request()
    assert (request.infer([np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)])[0] == 4).all()
    assert (request.infer([NOTHING, NOTHING[:, :2]])[0] == np.zeros((3, 2))).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda x, y: op.matmul(op.softmax(op.matmul(x, y, False, True), -1), y, False, False),
        lambda x, y: op.scaled_dot_product_attention(x, y, y),
    ],
)
def test_attention_without_keys_is_refused(tmp_path: Path, build: Callable[..., Any]) -> None:
    shapes, _ = load(tmp_path, build, [1, 2, 3, 8], [1, 2, -1, 8])
    assert shapes[1] == (Dimension(1, 1), Dimension(2, 2), NOT_EMPTY, Dimension(8, 8))


def test_tables_without_indices_are_refused(tmp_path: Path) -> None:
    def build(x: ov.Node, y: ov.Node) -> ov.Node:
        return op.gather(x, op.convert(y, "i64"), np.array(1), 1)

    _, indices = load(tmp_path, build, [2, 4, 3], [-1, 2])[0]
    assert indices == (NOT_EMPTY, Dimension(2, 2))


def test_a_pad_that_is_fused_into_a_convolution_is_refused(tmp_path: Path) -> None:
    def build(x: ov.Node) -> ov.Node:
        padded = op.pad(x, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), "constant", np.float32(0))
        return op.convolution(padded, np.ones((1, 1, 2, 2), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])

    shapes, _ = load(tmp_path, build, [1, 1, -1, 3])
    assert shapes == [(Dimension(1, 1), Dimension(1, 1), NOT_EMPTY, Dimension(3, 3))]
