"""No operation reads or writes beyond its tensors: it is guarded, or its model is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset1, opset2, opset3, opset4, opset7, opset8, opset9, opset12, opset15

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from headrace.server.engine.models import compile_model
from headrace.wire.errors import FailedPrecondition
from tests.server.engine.example import Example, Input, f32, i32, i64, real, weights, whole
from tests.server.engine.guarding.out_of_bounds.cases import CASES
from tests.server.engine.walks import take_walk

Build = Callable[..., Any]
PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}
UNCHECKED = ", and the runtime does not check them"
REFUSED: dict[str, tuple[tuple[Input, ...], Build, str]] = {
    "Roll": ((f32(4, 6), i64(1)), lambda x, axes: opset7.roll(x, whole([1]), axes), "takes its axes from data"),
    "Slice": (
        (f32(4, 6), i64(1)),
        lambda x, axes: opset8.slice(x, whole([0]), whole([2]), whole([1]), axes),
        "takes its axes from data",
    ),
    "SliceScatter": (
        (f32(4, 6), f32(4, 2), i64(1)),
        lambda x, u, start: opset15.slice_scatter(x, u, start, whole([2]), whole([1]), whole([1])),
        "takes its start from data",
    ),
    "DFT": ((f32(4, 8, 2), i64(1)), opset7.dft, "takes its axes from data"),
    "IDFT": (
        (f32(4, 8, 2), i64(1)),
        lambda x, sizes: opset7.idft(x, whole([1]), sizes),
        "takes its signal sizes from data",
    ),
    "RDFT": ((f32(4, 8), i64(1)), opset9.rdft, "takes its axes from data"),
    "IRDFT": ((f32(4, 5, 2), i64(1)), opset9.irdft, "takes its axes from data"),
    "Col2Im": (
        (f32(1, 12, 9), i64(2)),
        lambda x, size: opset15.col2im(x, size, whole([2, 2])),
        "takes its output size from data",
    ),
    "AdaptiveAvgPool": ((f32(1, 3, 8, 8), i64(2)), opset8.adaptive_avg_pool, "takes its output shape from data"),
    "AdaptiveMaxPool": (
        (f32(1, 3, 8, 8), i64(2)),
        lambda x, shape: opset8.adaptive_max_pool(x, shape).output(0),
        "takes its output shape from data",
    ),
    "SpaceToBatch": (
        (f32(1, 4, 4, 2), i64(4)),
        lambda x, pads: opset2.space_to_batch(x, whole([1, 2, 2, 1]), pads, whole([0, 0, 0, 0])),
        "takes its pads from data",
    ),
    "PriorBox": (
        (i64(2),),
        lambda size: opset8.prior_box(size, whole([64, 64]), {"offset": 0.5, "min_size": [16.0], "max_size": [32.0]}),
        "takes its output size from data",
    ),
    "PriorBoxClustered": (
        (i64(2),),
        lambda size: opset1.prior_box_clustered(
            size, whole([64, 64]), {"offset": 0.5, "width": [16.0], "height": [8.0]}
        ),
        "takes its output size from data",
    ),
    "CTCLoss": (
        (f32(2, 5, 6), i32(2), i32(2, 5), i32(2)),
        opset4.ctc_loss,
        "takes labels and lengths from data",
    ),
    "Gather": (
        (i64(2), i64()),
        lambda i, axis: opset8.gather(opset1.convert(opset1.constant(np.ones((4, 6), np.uint8)), "f32"), i, axis),
        "takes its indices from data along an unknown axis",
    ),
    "ScatterElementsUpdate": (
        (f32(4, 6), i64(2, 6), f32(2, 6), i64()),
        opset3.scatter_elements_update,
        "takes its axis from data, or indices for an unknown number of axes",
    ),
    "GatherND": (
        (f32(4, 6), i64(2, 2)),
        lambda x, i: opset8.gather_nd(x, opset1.reshape(i, opset1.reduce_max(i, whole([1]), False), False)),
        "takes indices for an unknown number of axes",
    ),
}


def _recurrent(x: ov.Node) -> ov.Node:
    rows = opset8.gather(opset3.shape_of(x), whole([0]), whole(0))
    state = opset3.broadcast(real(1), opset1.concat([rows, whole([5])], 0))
    return opset3.gru_cell(x, state, weights(15, 17), weights(15, 5), weights(15), 5)


def test_hostile_data_reveals_no_foreign_memory() -> None:
    """And right results stay right."""
    assert take_walk("tests.server.engine.guarding.out_of_bounds.walk") == [*CASES]


@pytest.mark.parametrize("type_name", REFUSED)
def test_models_that_cannot_be_guarded_are_refused(type_name: str) -> None:
    inputs, build, what = REFUSED[type_name]
    model = Example(inputs, (build,)).model()
    with pytest.raises(FailedPrecondition) as caught:
        guard_bounds(model)
    assert caught.value.message == f"{type_name} '{name(model, type_name)}' {what}{UNCHECKED}"


def test_padding_from_data_is_refused_where_shapes_vary() -> None:
    def padded(x: ov.Node, value: ov.Node) -> ov.Node:
        return opset12.pad(x, whole([1, 1]), whole([1, 1]), "constant", value)

    model = Example((f32(4, 6), f32()), (padded,)).model()
    guard_bounds(model)
    model.reshape({0: ov.PartialShape([-1, 6])})
    with pytest.raises(FailedPrecondition) as caught:
        guard_bounds(model)
    assert caught.value.message == (
        f"Pad '{name(model, 'Pad')}' takes its pad value from data,"
        " and the runtime keeps using the first value that it was given"
    )


def name(model: ov.Model, type_name: str) -> str:
    (node,) = [node for node in model.get_ops() if node.get_type_name() == type_name]
    return str(node.get_friendly_name())


@pytest.mark.parametrize(
    ("given", "build"),
    [
        (f32(4, 6), lambda x: opset8.gather_nd(x, whole([[3, 5], [3, 6]]), 0)),
        (f32(4, 6), lambda x: opset8.gather_nd(x, whole([[3, 5], [-5, 0]]), 0)),
        (f32(2, 4, 6), lambda x: opset8.gather_nd(x, whole([[[4]], [[0]]]), 1)),
        (i64(4), lambda x: opset8.gather(x, whole([0, 4]), whole(0))),
        (i64(4), lambda x: opset1.gather(x, whole([-1]), whole(0))),
    ],
)
def test_constants_out_of_range_are_refused(given: Input, build: Build) -> None:
    with pytest.raises(FailedPrecondition, match="has indices that are out of range, and the runtime does not check"):
        guard_bounds(Example((given,), (build,)).model())


@pytest.mark.parametrize(
    ("inputs", "build"),
    [
        ((f32(4, 6),), lambda x: opset8.gather_nd(x, whole([[3, 5], [-4, -6]]), 0)),
        ((i64(4),), lambda x: opset8.gather(x, whole([0, -4, 3]), whole(0))),
        ((f32(4, 6), i64(3)), lambda x, i: opset8.gather(x, i, whole(0))),
        ((f32(4), i64(3)), lambda x, i: opset8.gather(x, i, whole(0))),
        ((f32(4, 6),), lambda x: opset7.roll(x, whole([1]), whole([-1]))),
        ((f32(4, 6),), lambda x: opset8.slice(x, whole([0]), whole([2]), whole([1]), whole([1]))),
        ((f32(4, 6), f32(2, 12)), lambda x, y: opset8.adaptive_avg_pool(spread(x), sizes(y))),
    ],
)
def test_safe_models_are_left_unchanged(inputs: tuple[Input, ...], build: Build) -> None:
    model = Example(inputs, (build,)).model()
    before = [node.get_name() for node in model.get_ordered_ops()]
    guard_bounds(model)
    assert [node.get_name() for node in model.get_ordered_ops()] == before


def spread(x: ov.Node) -> ov.Node:
    return opset1.unsqueeze(x, whole([0, 1]))


def sizes(y: ov.Node) -> ov.Node:
    return opset3.shape_of(y)


@pytest.mark.parametrize(
    ("build", "good", "bad"),
    [
        (lambda x: opset1.matmul(x, weights(17, 4), False, False), (3, 17), [(3, 5), (3, 0), (17, 3), (3, 40)]),
        (lambda x: opset1.matmul(x, weights(4, 17), True, True), (17, 3), [(5, 3), (0, 3), (40, 3)]),
        (_recurrent, (2, 17), [(2, 5), (2, 0), (2, 40)]),
    ],
)
def test_rows_must_have_the_width_of_the_weights(
    core: ov.Core, build: Build, good: tuple[int, ...], bad: list[tuple[int, ...]]
) -> None:
    """The runtime would read beyond a narrower tensor."""
    model = Example((f32(*good),), (build,)).model()
    model.reshape({0: ov.PartialShape([-1, -1])})
    plain = core.compile_model(model, "CPU", PRECISE).create_infer_request()
    guard_bounds(model)
    data = np.random.default_rng(1).random(good, np.float32)
    for shape in bad:
        request = core.compile_model(model, "CPU", PRECISE).create_infer_request()
        assert request.infer([data])[0] == pytest.approx(plain.infer([data])[0], abs=1e-5)
        with pytest.raises(RuntimeError, match="conflicts with the reshape pattern"):
            request.infer([np.ones(shape, np.float32)])


def test_each_table_must_have_indices_of_its_own(core: ov.Core) -> None:
    """The runtime would read beyond them for more."""
    model = Example((f32(2, 4, 3), i64(2, 2)), (lambda x, i: opset8.gather(x, i, whole(1), 1),)).model()
    model.reshape({0: ov.PartialShape([-1, 4, 3]), 1: ov.PartialShape([-1, 2])})
    guard_bounds(model)
    tables = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    tables[1, 0, 0] = np.nan
    for rows in (2, 0, 7):
        request = core.compile_model(model, "CPU", PRECISE).create_infer_request()
        assert (request.infer([tables, np.full((5, 2), 3)])[0] == tables[:, [3, 3]]).all()
        with pytest.raises(RuntimeError, match="mismatch"):
            request.infer([tables, np.full((rows, 2), 3)])
    request = core.compile_model(model, "CPU", PRECISE).create_infer_request()
    request.infer([tables, np.full((5, 2), 3)])
    assert (request.infer([tables, np.full((1, 2), 2)])[0] == tables[:, [2, 2]]).all()  # one row is for all


def test_a_refused_model_does_not_load(tmp_path: Path) -> None:
    inputs, build, what = REFUSED["Roll"]
    path = tmp_path / "roll.xml"
    model = Example(inputs, (build,)).model()
    ov.save_model(model, path)
    with pytest.raises(FailedPrecondition) as caught:
        compile_model(ov.Core(), "m", "1", path, Compilation())
    named = f"Roll '{name(model, 'Roll')}'"
    assert caught.value.message == f"model 'm' cannot be served: {named} {what}{UNCHECKED}"


def test_a_guarded_model_loads(tmp_path: Path) -> None:
    path = tmp_path / "gather.xml"
    ov.save_model(CASES["GatherND-8"].model(), path)
    model = compile_model(ov.Core(), "m", "1", path, Compilation(run="async", batch=1))
    request = model.runtime.create_infer_request()
    table = np.arange(32, dtype=np.float32).reshape(4, 8)
    assert request.infer([table, np.array([[1, 2], [-4, 7]])])[0].tolist() == [10, 7]
    assert request.infer([table, np.array([[100, 100], [-100, 2 * 10**8]])])[0].tolist() == [31, 7]


def test_a_loop_ends_for_any_number_of_iterations() -> None:
    """An endless loop could not be stopped, and would occupy its slot and a processor for ever."""
    x, count, inside = op_parameter([4]), op_parameter([], "i64"), op_parameter([4])
    doubled = opset15.multiply(inside, np.float32(2))
    body = ov.Model([opset15.result(opset15.constant(np.array(True))), opset15.result(doubled)], [inside], "body")
    loop = opset15.loop(count, opset15.constant(np.array(True)))
    loop.set_function(body)
    loop.set_special_body_ports([-1, 0])
    loop.set_merged_input(inside, x.output(0), doubled.output(0))
    model = ov.Model([opset15.result(loop.get_iter_value(doubled.output(0), -1))], [x, count], "loop")
    guard_bounds(model)
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    request.set_input_tensor(0, ov.Tensor(np.ones(4, np.float32)))
    for iterations, factor in ((3, 8), (-1, 1), (1, 2), (-(2**31), 1)):
        request.set_input_tensor(1, ov.Tensor(np.array(iterations)))
        request.start_async()
        assert request.wait_for(60_000), f"{iterations} iterations do not end"
        assert request.get_output_tensor(0).data.tolist() == [factor] * 4


def op_parameter(shape: list[int], type_name: str = "f32") -> ov.op.Parameter:
    return opset15.parameter(shape, getattr(ov.Type, type_name))
