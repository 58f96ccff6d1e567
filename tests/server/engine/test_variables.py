"""What the variables of a model hold is taken from one slot and given to another, where the next run begins with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from headrace.server.core.engine_api import Ended, Run, Variables
from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from tests import stateful_models
from tests.server.engine.driver import Driver, array, f32, of, piece
from tests.stateful_models import FEATURES, Array, steps

Build = Callable[[Path], Path]


def load(driver: Driver, path: Path, slots: int = 2, run: Literal["direct", "async"] = "async") -> ModelSpec:
    compilation = Compilation(run=run, slots=slots, state="sequence", properties=stateful_models.F32)
    return driver.engine.load("m", "1", path, compilation)


def step(
    driver: Driver,
    spec: ModelSpec,
    inputs: dict[str, Array],
    held: Variables | None,
    slot: int = 0,
    *,
    wants: bool = True,
) -> tuple[Array, Variables | None]:
    """The first output of a run that begins with these variables, and what they hold then."""
    part = piece(spec, inputs)
    part.variables, part.wants_variables = held, wants
    ended = ended_of(driver, of(part, slot=slot))
    assert ended.error is None
    return array(ended.sent[0][0]), ended.variables


def ended_of(driver: Driver, run: Run) -> Ended:
    driver.usable(run.spec, run.slot)
    ended = driver.engine.start(run)
    if ended is None:
        (ended,) = driver.wait()
    else:
        driver.look([ended])
    return ended


def lstm_of_one_row(folder: Path) -> Path:
    return stateful_models.lstm(folder, 1)


def sum_from_ten(folder: Path) -> Path:
    return stateful_models.sum_from(folder, [10, 20])


@pytest.mark.parametrize("run", ["async", "direct"])
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lstm_of_one_row, (1, FEATURES)),
        (stateful_models.sum_from, (2,)),
        (sum_from_ten, (2,)),
        (stateful_models.growing, (1, 2)),
        (stateful_models.old, (1, 3)),
        (stateful_models.speech, (1, 576)),
    ],
)
def test_two_sequences_by_turns_in_two_slots(
    driver: Driver, tmp_path: Path, build: Build, shape: tuple[int, ...], run: Literal["direct", "async"]
) -> None:
    """Each equals a request of plain OpenVINO of its own."""
    path = build(tmp_path)
    spec = load(driver, path, run=run)
    name, output = spec.inputs[0].name, spec.outputs[0].name
    random = np.random.default_rng(7)
    inputs = [[{name: random.standard_normal(shape, np.float32)} for _ in range(20)] for _ in range(2)]
    found: list[list[Array]] = [[], []]
    held: list[Variables | None] = [None, None]
    for number in range(20):
        for each in (0, 1):
            slot = int(random.integers(2))
            value, held[each] = step(driver, spec, inputs[each][number], held[each], slot)
            found[each].append(value)
    for each in (0, 1):
        for ours, plain in zip(found[each], steps(path, inputs[each], output), strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


def test_an_input_that_is_assigned_is_what_the_next_run_begins_with(driver: Driver, tmp_path: Path) -> None:
    """The runtime's own variable shares the memory of that input."""
    spec = load(driver, stateful_models.last_seen(tmp_path))
    held: Variables | None = None
    before = f32(0, 0)
    for number in range(1, 9):
        value, held = step(driver, spec, {"x": f32(number, -number)}, held, number % 2)
        np.testing.assert_array_equal(value, before)
        before = f32(number, -number)


def test_what_is_held_never_changes(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, stateful_models.sum_from(tmp_path), slots=1)
    _, first = step(driver, spec, {"x": f32(1, 1)}, None)
    assert first is not None
    assert first.nbytes == 8
    for _ in range(3):
        value, _ = step(driver, spec, {"x": f32(2, 2)}, first)
        assert value.tolist() == [3, 3]
        value, _ = step(driver, spec, {"x": f32(5, 5)}, None)
        assert value.tolist() == [5, 5]


def test_what_nobody_wants_is_not_copied(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, stateful_models.sum_from(tmp_path))
    assert step(driver, spec, {"x": f32(1, 1)}, None, wants=False)[1] is None


def test_a_run_that_fails_harms_no_other_sequence(driver: Driver, tmp_path: Path) -> None:
    """Rows that do not go with those of the variables: the run fails, its slot is restored, and others go on."""
    spec = load(driver, stateful_models.first_seen_sum(tmp_path), slots=1)
    assert not spec.direct
    _, three = step(driver, spec, {"x": f32(1, 2, 3)}, None)
    for _ in range(3):
        bad = piece(spec, {"x": f32(1, 2)})
        bad.variables, bad.wants_variables = three, True
        ended = ended_of(driver, of(bad))
        assert ended.error is not None
        assert ended.variables is None
        value, _ = step(driver, spec, {"x": f32(4, 5, 6)}, three)
        assert value.tolist() == [5, 7, 9]
        value, _ = step(driver, spec, {"x": f32(4, 5)}, None)
        assert value.tolist() == [8, 10]
