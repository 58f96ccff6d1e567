"""Data that empty a tensor do not reveal what another run has computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset1, opset2, opset16
from openvino import opset15 as op

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.guarding.empty_tensors.guards import guard_empty_tensors
from headrace.server.engine.models import compile_model
from headrace.server.engine.ports import ports_of
from headrace.wire.errors import FailedPrecondition
from tests.server.engine.example import whole
from tests.server.engine.guarding.empty_tensors.case import Case, Given
from tests.server.engine.guarding.empty_tensors.cases import CASES, RIGHT, ROWS
from tests.server.engine.walks import take_walk

LEFT_OVER = "may get an empty tensor from data, and the runtime answers that with an earlier run's result"


def test_results_are_right_when_data_empty_a_tensor() -> None:
    """Directly and asynchronously, repeatedly, among runs with ordinary data, which are unaffected."""
    assert take_walk("tests.server.engine.guarding.empty_tensors.walk") == [*CASES, *RIGHT]


def each_row(x: ov.Output) -> ov.Output:
    row, total = opset1.parameter([1, 3], np.float32), opset1.parameter([1, 3], np.float32)
    more = op.result(op.add(row, total))
    iterator = op.tensor_iterator()
    iterator.set_body(ov.Model([more], [row, total], "body"))
    iterator.set_sliced_input(row, x, 0, 1, 1, -1, 0)
    iterator.set_merged_input(total, op.constant(np.zeros((1, 3), np.float32)).output(0), more.output(0))
    return iterator.get_iter_value(more.output(0), -1)


def attention(q: ov.Output, k: ov.Output, v: ov.Output) -> ov.Node:
    return op.einsum([op.softmax(op.einsum([q, k], "qe,ke->qk"), 1), v], "qk,ke->qe")


REFUSED: dict[str, tuple[tuple[Given, ...], Callable[..., Any]]] = {
    "Einsum": ((Given((3, 8)), Given((4, 8), 0), Given((4, 8), 0)), attention),
    "EmbeddingSegmentsSum": (
        (ROWS, Given((5,), dtype=np.int64), Given((5,), dtype=np.int64)),
        lambda table, i, segments: op.embedding_segments_sum(table, i, segments, whole(3)),
    ),
    "MatrixNms": ((Given((1, 6, 4), 1), Given((1, 2, 6), 2)), lambda *x: op.matrix_nms(*x).output(0)),
    "MulticlassNms": ((Given((1, 6, 4), 1), Given((1, 2, 6), 2)), lambda *x: op.multiclass_nms(*x).output(0)),
    "Multinomial": ((Given((2, 4), 1),), lambda x: op.multinomial(x, whole([3]), "i32", True, False)),
    "ROIPooling": (
        (Given((1, 3, 8, 8), 2), Given((2, 5))),
        lambda x, boxes: opset2.roi_pooling(x, boxes, [2, 2], 1.0, "bilinear"),
    ),
    "SegmentMax": (
        (Given((5, 3), 0), Given((5,), 0, np.int64)),
        lambda x, segments: opset16.segment_max(x, segments, whole(4), fill_mode="ZERO"),
    ),
    "StringTensorPack": (
        (Given((2,), 0, np.int32), Given((2,), 0, np.int32), Given((4,), dtype=np.uint8)),
        lambda *x: op.string_tensor_unpack(op.string_tensor_pack(*x)).output(0),
    ),
    "TensorIterator": ((ROWS,), each_row),
    "Unique": ((ROWS,), lambda x: op.unique(x).output(0)),
}


@pytest.mark.parametrize("type_name", REFUSED)
def test_models_that_cannot_be_guarded_are_refused(type_name: str) -> None:
    inputs, build = REFUSED[type_name]
    model = Case(inputs, build, list).model()
    nodes = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == type_name]
    with pytest.raises(FailedPrecondition) as caught:
        guard_empty_tensors(model, ports_of("m", "input", model.inputs))
    assert caught.value.message in {f"{type_name} '{name}' {LEFT_OVER}" for name in nodes}


def test_an_output_keeps_its_names() -> None:
    model = CASES["Gather"].model()
    model.outputs[0].get_tensor().set_names({"found", "row"})
    guard_empty_tensors(model, ports_of("m", "input", model.inputs))
    assert [output.get_names() for output in model.outputs] == [{"found", "row"}]


def test_a_refused_model_does_not_load(tmp_path: Path) -> None:
    inputs, build = REFUSED["Unique"]
    model = Case(inputs, build, list).model()
    (name,) = [node.get_friendly_name() for node in model.get_ops() if node.get_type_name() == "Unique"]
    path = tmp_path / "model.xml"
    ov.save_model(model, path)
    with pytest.raises(FailedPrecondition) as caught:
        compile_model(ov.Core(), "m", "1", path, Compilation())
    assert caught.value.message == f"model 'm' cannot be served: Unique '{name}' {LEFT_OVER}"


def test_results_are_right_when_input_sizes_empty_a_tensor(tmp_path: Path) -> None:
    """Three rows have nothing behind the fifth, and that depends on no data."""

    def sixth(x: ov.Node) -> ov.Node:
        rest = op.slice(x, whole([5]), whole([1 << 31]), whole([1]), whole([0]))
        return op.gather(rest, whole([0]), whole(0))

    x = op.parameter([-1, 3], np.float32)
    path = tmp_path / "model.xml"
    ov.save_model(ov.Model([op.result(sixth(x))], [x], "model"), path, compress_to_fp16=False)
    model = compile_model(ov.Core(), "m", "1", path, Compilation(run="async", batch=1))
    request = model.runtime.create_infer_request()
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    for _ in range(3):
        assert request.infer([rows])[0].tolist() == [[15, 16, 17]]
        assert request.infer([rows[:3]])[0].tolist() == [[0, 0, 0]]
