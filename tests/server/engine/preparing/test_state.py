"""Variables become ports, and whoever carries them gets what the runtime's own variables give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import CompiledModel, compile_model
from headrace.server.engine.port_options import InputOptions
from headrace.server.engine.preparing.state import variables_to_ports
from headrace.wire.errors import FailedPrecondition
from tests import models, stateful_models
from tests.stateful_models import FEATURES, Array, steps

Build = Callable[[Path], Path]


def load(path: Path, **inputs: InputOptions) -> CompiledModel:
    compilation = Compilation(state="ports", inputs=inputs, properties=stateful_models.F32)
    return compile_model(ov.Core(), "m", "1", path, compilation)


def ports(spec: ModelSpec) -> list[str]:
    return [f"{' '.join(port.names)} {port}" for port in (*spec.inputs, *spec.outputs)]


def carried(model: CompiledModel, inputs: list[dict[str, Array]], state: dict[str, Array]) -> list[Array]:
    """The first output of each run, each run with the state that the run before has given."""
    request = model.runtime.create_infer_request()
    found: list[Array] = []
    for each in inputs:
        given = {**each, **state}
        request.infer([given[port.name] for port in model.spec.inputs])
        found.append(np.array(request.get_output_tensor(0).data))
        following = {
            port.name.removesuffix(".next"): np.array(request.get_output_tensor(port.index).data)
            for port in model.spec.outputs
            if port.name.endswith(".next")
        }
        assert following.keys() == state.keys()
        state = following
    return found


def zeros(**shapes: tuple[int, ...]) -> dict[str, Array]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def lstm_of_one_row(folder: Path) -> Path:
    return stateful_models.lstm(folder, 1)


@pytest.mark.parametrize(
    ("build", "shape", "state"),
    [
        (lstm_of_one_row, (1, FEATURES), zeros(h=(1, 16), c=(1, 16))),
        (stateful_models.sum_from, (2,), zeros(total=(2,))),
        (stateful_models.growing, (1, 2), zeros(rows=(0, 2))),
        (stateful_models.old, (1, 3), zeros(total=(1, 3))),
        (stateful_models.speech, (1, 576), zeros(statestateN=(2, 1, 128))),
    ],
)
def test_fifty_steps_equal_those_of_the_variables(
    tmp_path: Path, build: Build, shape: tuple[int, ...], state: dict[str, Array]
) -> None:
    path = build(tmp_path)
    model = load(path)
    assert not model.spec.has_variables
    name, output = model.spec.inputs[0].name, model.spec.outputs[0].name
    random = np.random.default_rng(4)
    inputs = [{name: random.standard_normal(shape, np.float32)} for _ in range(50)]
    for ours, plain in zip(carried(model, inputs, state), steps(path, inputs, output), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


def test_an_input_that_is_assigned_is_passed_on(tmp_path: Path) -> None:
    """The runtime's own variable shares the memory of that input, and changes with the next one."""
    model = load(stateful_models.last_seen(tmp_path))
    inputs = [{"x": np.array([number, -number], np.float32)} for number in range(1, 6)]
    found = carried(model, inputs, zeros(last=(2,)))
    np.testing.assert_array_equal(found, [np.zeros(2), *[each["x"] for each in inputs[:-1]]])


def test_what_a_variable_begins_with_is_an_output(tmp_path: Path) -> None:
    """Only where that is not zeros."""
    path = stateful_models.sum_from(tmp_path, [3, 4])
    model = load(path)
    assert ports(model.spec) == [
        "x FP32[2]",
        "total FP32[2]",
        "y FP32[2]",
        "total.next FP32[2]",
        "total.initial FP32[2]",
    ]
    x = np.array([1, 1], np.float32)
    request = model.runtime.create_infer_request()
    request.infer([x, np.zeros(2, np.float32)])
    initial = np.array(request.get_output_tensor(2).data)
    inputs = [{"x": x * number} for number in range(5)]
    np.testing.assert_array_equal(carried(model, inputs, {"total": initial}), [*steps(path, inputs, "y")])


def test_what_a_variable_begins_with_may_follow_from_an_input(tmp_path: Path) -> None:
    """A variable that nothing assigns keeps what it has."""
    spec = load(stateful_models.first_seen(tmp_path)).spec
    assert ports(spec) == ["x FP32[?]", "first FP32[?]", "y FP32[?]", "first.next FP32[?]", "first.initial FP32[?]"]


def test_a_model_runs_directly_and_in_batches_like_any_other(tmp_path: Path) -> None:
    spec = load(stateful_models.lstm(tmp_path)).spec
    assert spec.direct, spec.direct_reason
    assert spec.batch > 1, spec.batch_reason
    assert ports(spec)[:3] == [f"x FP32[?,{FEATURES}]", "c FP32[?,16]", "h FP32[?,16]"]


@pytest.mark.parametrize(
    ("variable", "given", "result", "names"),
    [
        ("s", "x", "y", ["s", "s.next"]),
        ("x", "x", "y", ["x.state", "x.state.next"]),
        ("y", "x", "y", ["y.state", "y.state.next"]),
        ("s", "x", "s.next", ["s.state", "s.state.next"]),
        ("s", "s.state", "s", ["s.state.state", "s.state.state.next"]),
        ("a/b:0 é", "x", "y", ["a/b:0 é", "a/b:0 é.next"]),
    ],
)
def test_names(tmp_path: Path, variable: str, given: str, result: str, names: list[str]) -> None:
    spec = load(stateful_models.named(tmp_path, variable, given, result)).spec
    assert [port.name for port in (*spec.inputs, *spec.outputs)] == [given, names[0], result, names[1]]


def test_options_name_the_new_ports(tmp_path: Path) -> None:
    spec = load(stateful_models.lstm(tmp_path), h=InputOptions(shape="4,16")).spec
    assert str(spec.input("h")) == "FP32[4,16]"


def test_a_model_without_variables_stays_as_it_is(tmp_path: Path) -> None:
    assert ports(load(models.scale(tmp_path)).spec) == ["x FP32[?]", "y FP32[?]"]


def test_a_variable_that_is_assigned_twice_has_no_ports(tmp_path: Path) -> None:
    model = ov.Core().read_model(stateful_models.sum_from(tmp_path))
    (variable,) = model.get_variables()
    model.add_sinks([op.assign(model.get_results()[0].input_value(0).get_node(), variable)])
    with pytest.raises(ValueError, match=r"^its variable 'total' is assigned 2 times in one run$"):
        variables_to_ports(model)
    path = tmp_path / "twice.xml"
    ov.save_model(model, path)
    with pytest.raises(FailedPrecondition, match=r"^model 'm' cannot be prepared: its variable 'total' is assigned 2"):
        load(path)


def test_an_unread_variable_has_no_ports(tmp_path: Path) -> None:
    model = ov.Core().read_model(models.scale(tmp_path))
    info = ov.op.util.VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([-1]), ov.Type.f32, "unread"
    variable = ov.op.util.Variable(info)
    model.add_variables([variable])
    model.add_sinks([op.assign(model.get_results()[0].input_value(0).get_node(), variable)])
    variables_to_ports(model)
    assert (len(model.inputs), len(model.outputs), model.get_variables(), model.get_sinks()) == (1, 1, [], [])
