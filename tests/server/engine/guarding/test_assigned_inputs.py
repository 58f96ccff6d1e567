"""Models whose variables are assigned their inputs: the runtime alone gives each the memory of the other.

What is right is known from the same graph with ports instead of variables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.guarding.assigned_inputs import separate_assigned_inputs
from headrace.server.engine.models import compile_model
from headrace.server.engine.preparing.state import NEXT, variables_to_ports
from tests import models, stateful_models
from tests.saving import result, write

Array = npt.NDArray[Any]
ROWS, COLUMNS, STEPS = 3, 4, 5
OPERATIONS = ("add", "half", "relu", "window", "columns", "turn", "shape", "split", "gather", "pad", "axis", "choose")


def test_a_window_that_moves_along_the_inputs(tmp_path: Path) -> None:
    """Even with variables that are reset, the runtime alone answers without the input, or with what is in memory."""
    path = stateful_models.window(tmp_path)
    model = compile_model(ov.Core(), "m", "1", path, Compilation(properties=stateful_models.F32))
    request = model.runtime.create_infer_request()
    for reset in (True, False):
        rows = [np.zeros((1, 4), np.float32)] * 3
        request.reset_state()
        for number in range(1, 6):
            if reset:
                request.reset_state()
                rows = [np.zeros((1, 4), np.float32)] * 3
            rows = [*rows[1:], np.full((1, 4), number, np.float32)]
            request.infer({"x": rows[-1]})
            np.testing.assert_array_equal(request.get_output_tensor(0).data, np.concatenate(rows))


@pytest.mark.parametrize("build", [stateful_models.lstm, stateful_models.growing, stateful_models.speech, models.scale])
def test_what_needs_no_copy_has_none(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    """Only an input that reaches a variable as it is: here that is none, but for rows that are joined to it."""
    model = ov.Core().read_model(build(tmp_path))
    before = [node.get_type_name() for node in model.get_ops()].count("Select")
    separate_assigned_inputs(model)
    added = [node.get_type_name() for node in model.get_ops()].count("Select") - before
    assert added == (build is stateful_models.growing)


@pytest.mark.parametrize("seed", range(16))
def test_random_graphs(tmp_path: Path, seed: int) -> None:
    path = Drawn(Random(seed)).save(tmp_path)
    random = np.random.default_rng(seed)
    inputs = [random.standard_normal((ROWS, COLUMNS), np.float32) for _ in range(STEPS)]
    for reset in (True, False):
        expected = with_ports(path, inputs, reset=reset)
        for ours, right in zip(with_variables(path, inputs, reset=reset), expected, strict=True):
            np.testing.assert_array_equal(ours, right)


class Drawn:
    """A graph drawn at random, of operations that move elements and of others. Each variable is also an output."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._x = stateful_models.named_input("x", [ROWS, COLUMNS])
        self._nodes: list[ov.Node] = [self._x]
        self._variables: list[ov.op.util.Variable] = []
        results: list[ov.op.Result] = []
        for name in "abc"[: random.randint(1, 3)]:
            filled = op.constant(np.full((ROWS, COLUMNS), random.choice([0, 1]), np.float32))
            initial = self._x if random.random() < 0.25 else filled
            read, variable = stateful_models.read_value(name, [ROWS, COLUMNS], initial)
            self._nodes.append(read)
            self._variables.append(variable)
            results.append(result(f"three_{name}", op.multiply(read, np.float32(3))))
        for _ in range(random.randint(1, 6)):
            self._nodes.append(self._operation(self._pick(), self._pick()))
        assigns = [op.assign(random.choice(self._nodes), variable) for variable in self._variables]
        results.append(result("y", random.choice(self._nodes[1:])))
        self._model = ov.Model(results, assigns, [self._x], "drawn")

    def save(self, folder: Path) -> Path:
        return write(folder, "drawn", self._model)

    def _pick(self) -> ov.Node:
        return self._random.choice(self._nodes[-4:] if self._random.random() < 0.6 else self._nodes)

    def _operation(self, a: ov.Node, b: ov.Node) -> ov.Node:
        match self._random.choice(OPERATIONS):
            case "add":
                return op.multiply(op.add(a, b), np.float32(0.5))
            case "half":
                return op.multiply(a, np.float32(0.5))
            case "relu":
                return op.relu(a)
            case "window":
                return op.concat([_part(a, 1, ROWS, 0), _part(b, 0, 1, 0)], 0)
            case "columns":
                return op.concat([_part(a, 1, COLUMNS, 1), _part(b, 0, 1, 1)], 1)
            case "turn":
                return op.transpose(op.transpose(a, _integers(1, 0)), _integers(1, 0))
            case "shape":
                turned = op.reshape(a, _integers(COLUMNS, ROWS), special_zero=False)
                return op.reshape(turned, _integers(ROWS, COLUMNS), special_zero=False)
            case "split":
                parts = op.variadic_split(a, np.int64(0), _integers(1, ROWS - 1))
                return op.concat([parts.output(1), parts.output(0)], 0)
            case "gather":
                return op.gather(a, _integers(*self._random.sample(range(ROWS), ROWS)), np.int64(0))
            case "pad":
                rows = _part(a, 0, ROWS - 1, 0)
                return op.pad(rows, _integers(1, 0), _integers(0, 0), "constant", np.float32(0))
            case "axis":
                return op.squeeze(op.unsqueeze(a, _integers(0)), _integers(0))
            case _:
                return op.select(op.greater(a, b), a, b)


def _integers(*values: int) -> Array:
    return np.array(values, np.int64)


def _part(node: ov.Node, start: int, stop: int, axis: int) -> ov.Node:
    return op.slice(node, _integers(start), _integers(stop), _integers(1), _integers(axis))


def with_ports(path: Path, inputs: list[Array], *, reset: bool) -> list[Array]:
    """All outputs of each step, joined. Each step has a request of its own."""
    model = ov.Core().read_model(path)
    reads = [node for node in model.get_ops() if node.get_type_name() == "ReadValue"]
    begins = {node.get_attributes()["variable_id"]: node.input_value(0).get_node() for node in reads}
    initial = {
        name: None if isinstance(node, ov.op.Parameter) else np.array(node.data) for name, node in begins.items()
    }
    count = len(model.outputs)
    variables_to_ports(model)
    names = [parameter.get_friendly_name() for parameter in model.get_parameters()]
    results = [result.get_friendly_name() for result in model.get_results()]
    compiled = ov.Core().compile_model(model, "CPU", stateful_models.F32)
    state: dict[str, Array | None] = initial
    found: list[Array] = []
    for x in inputs:
        given = [(initial if reset else state)[name] for name in names[1:]]
        request = compiled.create_infer_request()
        request.infer([x, *(x if each is None else each for each in given)])
        outputs = [np.array(request.get_output_tensor(number).data) for number in range(len(results))]
        found.append(np.stack(outputs[:count]))
        state = {
            name.removesuffix(NEXT): output
            for name, output in zip(results, outputs, strict=True)
            if name.endswith(NEXT)
        }
    return found


def with_variables(path: Path, inputs: list[Array], *, reset: bool) -> list[Array]:
    """The same with the runtime's variables, once guarded."""
    model = ov.Core().read_model(path)
    separate_assigned_inputs(model)
    request = ov.Core().compile_model(model, "CPU", stateful_models.F32).create_infer_request()
    found: list[Array] = []
    for x in inputs:
        if reset:
            request.reset_state()
        request.infer([x])
        found.append(
            np.stack([np.array(request.get_output_tensor(number).data) for number in range(len(model.outputs))])
        )
    return found
