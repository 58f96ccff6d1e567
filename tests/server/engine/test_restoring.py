"""A slot whose compiled model a run has spoiled is not used before it is restored (see engine/restoring.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.core.engine_api import Run
from headrace.server.core.specs import ModelSpec
from headrace.server.engine import slots
from headrace.server.engine.graph.implied_sizes import ImpliedSizes
from headrace.server.engine.models import CompiledModel
from headrace.server.engine.slots import Slot
from headrace.wire.errors import Unavailable
from tests import models
from tests.interpreted import interpreted
from tests.server.engine.driver import Array, Driver, Piece, array, f32, make
from tests.server.engine.spoiling import WIDTH, gathered, products

SMALL, LARGE = (np.random.default_rng(1).standard_normal((rows, WIDTH)).astype(np.float32) for rows in (3, 3000))


def save(model: ov.Model, folder: Path) -> Path:
    for name, port in zip("xi", model.inputs, strict=False):
        port.set_names({name})
    model.output(0).set_names({"y"})
    path = folder / "model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def now(driver: Driver, run: Run) -> None:
    """Cancel a run, and make the runtime stop it at once."""
    driver.engine.cancel(run)
    driver.slot(run.spec, run.slot)._interrupt_at = 0


@pytest.fixture
def spec(driver: Driver, tmp_path: Path) -> ModelSpec:
    return driver.load(save(products(), tmp_path))


def test_a_run_after_one_that_was_stopped(driver: Driver, spec: ModelSpec) -> None:
    right = array(driver.infer(spec, {"x": SMALL}).sent[0])
    for _ in range(5):
        run = make(spec, {"x": LARGE})
        assert driver.engine.start(run) is None
        now(driver, run)
        (ended,) = driver.wait()
        assert ended.restoring
        assert np.array_equal(array(driver.infer(spec, {"x": SMALL}).sent[0]), right)


def test_a_run_after_one_that_failed(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(save(gathered(), tmp_path))
    small = {"x": np.ones((2, 4), np.float32), "i": np.zeros((2, 2), np.int32)}
    large = {"x": np.ones((50, 4), np.float32), "i": np.full((50, 2), 99, np.int32)}
    for _ in range(10):
        assert (array(driver.infer(spec, small).sent[0]) == np.full((2, 3), 2)).all()
        assert isinstance(driver.run(make(spec, large)).error, RuntimeError)
        assert (array(driver.infer(spec, small).sent[0]) == np.full((2, 3), 2)).all()


def test_a_cancelled_run_goes_on_unless_that_takes_longer_than_replacing(driver: Driver, spec: ModelSpec) -> None:
    run = make(spec, {"x": LARGE})
    slot = driver.slot(spec)
    slot._replacement_seconds = 100
    assert driver.engine.start(run) is None
    driver.engine.cancel(run)
    (ended,) = driver.wait()
    assert (ended.error, ended.restoring, ended.sent) == (None, False, ())
    slot._replacement_seconds = 0
    assert driver.engine.start(run) is None
    driver.engine.cancel(run)
    (ended,) = driver.wait()
    assert ended.restoring


def gathering(rows: int, element: int) -> dict[str, Array]:
    return {"x": np.ones((rows, 4), np.float32), "i": np.full((rows, 2), element, np.int32)}


def test_zeros_in_the_shapes_of_the_failed_run_cleanse(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(save(gathered(), tmp_path))
    slot = driver.slot(spec)
    slot._replacement_seconds = 100  # on a busy machine zeros may take longer than compiling did
    for rows in (2, 50, 3, 200):
        assert isinstance(driver.run(make(spec, gathering(rows, 99))).error, RuntimeError)
        for good in (rows, 2, 3):
            assert (array(driver.infer(spec, gathering(good, 1)).sent[0]) == np.full((good, 3), 2)).all()
    assert driver.slot(spec) is slot
    assert driver.engine.collect() + driver.engine.poll() == []  # nobody is told of the zeros


def test_a_slot_that_failed_for_its_shapes_is_replaced(driver: Driver, tmp_path: Path) -> None:
    """A run of zeros in these shapes fails as well."""
    spec = driver.load(models.failing(tmp_path))
    slot = driver.slot(spec)
    assert isinstance(driver.run(make(spec, {"x": np.zeros(15, np.float32)})).error, RuntimeError)
    x = np.arange(16, dtype=np.float32)
    assert (array(driver.infer(spec, {"x": x}).sent[0]) == x.reshape(2, 8)).all()
    assert driver.slot(spec) is not slot


def test_a_slot_that_failed_for_its_shapes_is_replaced_although_zeros_seem_to_succeed(
    driver: Driver, tmp_path: Path
) -> None:
    """After it has failed, a Reshape to a pattern computed from shapes does not check the pattern again."""
    x, rows = op.parameter([-1], ov.Type.f32), op.parameter([-1], ov.Type.i32)
    pattern = op.concat([op.shape_of(rows), op.constant(np.array([4]))], 0)
    model = ov.Model([op.relu(op.reshape(x, pattern, special_zero=False))], [x, rows])
    spec = driver.load(save(model, tmp_path))
    good = {"x": np.arange(8, dtype=np.float32), "i": np.zeros(2, np.int32)}
    bad = {"x": np.arange(6, dtype=np.float32), "i": np.zeros(3, np.int32)}
    for _ in range(4):
        slot = driver.slot(spec)
        assert array(driver.infer(spec, good).sent[0]).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
        for _ in range(2):
            assert isinstance(driver.run(make(spec, bad)).error, RuntimeError)
        driver.usable(spec)
        assert driver.slot(spec) is not slot


def test_a_slot_with_shapes_that_depend_on_data_is_replaced(driver: Driver, tmp_path: Path) -> None:
    """Zeros would give other shapes."""
    spec = driver.load(models.reshaping(tmp_path))
    slot = driver.slot(spec)
    x = np.arange(16, dtype=np.float32)
    assert isinstance(driver.run(make(spec, {"x": x, "shape": np.array([3, 5])})).error, RuntimeError)
    assert (array(driver.infer(spec, {"x": x, "shape": np.array([2, 8])}).sent[0]) == x.reshape(2, 8)).all()
    assert driver.slot(spec) is not slot


def test_a_slot_whose_run_was_stopped_is_replaced(driver: Driver, spec: ModelSpec) -> None:
    """Cleansing it would take as long as letting the run go on."""
    slot = driver.slot(spec)
    run = make(spec, {"x": LARGE})
    driver.engine.start(run)
    now(driver, run)
    driver.wait()
    driver.infer(spec, {"x": SMALL})
    assert driver.slot(spec) is not slot


def test_cleansing_that_takes_longer_than_replacing(driver: Driver, tmp_path: Path) -> None:
    """Large inputs stay lent to the runtime until it has ended the run."""
    spec = driver.load(save(gathered(), tmp_path))
    slot = driver.slot(spec)
    slot._replacement_seconds = 0
    assert isinstance(driver.run(make(spec, gathering(1_000_000, 99))).error, RuntimeError)
    assert (array(driver.infer(spec, gathering(3, 1)).sent[0]) == np.full((3, 3), 2)).all()
    assert driver.slot(spec) is not slot


def test_the_slot_of_a_static_model_stays_usable(driver: Driver, tmp_path: Path) -> None:
    """Its graph keeps no shapes of earlier runs, and every run executes every node."""
    spec = driver.load(models.scattering(tmp_path))
    slot = driver.slot(spec)
    good = {"x": np.ones((4, 2), np.float32), "i": np.array([[0], [3]]), "u": np.zeros((2, 2), np.float32)}
    for _ in range(10):
        ended = driver.run(make(spec, {**good, "i": np.array([[0], [4]])}))
        assert isinstance(ended.error, RuntimeError)
        assert array(driver.infer(spec, good).sent[0]).tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]
    assert driver.slot(spec) is slot


def test_a_run_that_never_reached_the_runtime_spoils_nothing(driver: Driver, spec: ModelSpec) -> None:
    run = make(spec, {"x": SMALL})
    (part,) = run.parts
    assert isinstance(part, Piece)
    part.inline = [part.inline[0][:-4]]
    ended = driver.engine.start(run)
    assert ended is not None
    assert isinstance(ended.error, ValueError)
    assert not ended.restoring


@pytest.mark.parametrize("slots", [1, 3])
def test_every_slot_has_a_compiled_model_of_its_own(driver: Driver, tmp_path: Path, slots: int) -> None:
    spec = driver.load(save(products(), tmp_path), slots=slots)
    compiled = [driver.slot(spec, index)._request.get_compiled_model() for index in range(slots)]
    assert [each.get_property("NUM_STREAMS") for each in compiled] == [1] * slots


class Broken:
    """A model that compiles only as many times as `works` says."""

    def __init__(self, real: Callable[[CompiledModel], CompiledModel]) -> None:
        self.works = 0
        self._real = real

    def __call__(self, model: CompiledModel) -> CompiledModel:
        if self.works:
            self.works -= 1
            return self._real(model)
        raise MemoryError


def test_a_slot_that_cannot_be_replaced_fails_each_run_and_is_tried_again(
    driver: Driver, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = array(driver.infer(spec, {"x": SMALL}).sent[0])
    broken = Broken(CompiledModel.recompiled)
    monkeypatch.setattr(CompiledModel, "recompiled", lambda model: broken(model))
    run = make(spec, {"x": LARGE})
    driver.engine.start(run)
    now(driver, run)
    driver.wait()
    for _ in range(3):
        error = driver.run(make(spec, {"x": SMALL})).error
        assert isinstance(error, Unavailable)
        assert error.retryable
    broken.works = 1
    driver.run(make(spec, {"x": SMALL}))
    assert np.array_equal(array(driver.infer(spec, {"x": SMALL}).sent[0]), right)


def test_an_error_while_restoring_one_slot_does_not_stop_restoring_others(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = driver.load(save(gathered(), tmp_path))

    def broken(_: Slot) -> bool:
        monkeypatch.undo()
        raise ValueError

    monkeypatch.setattr(Slot, "cleanse", broken)
    assert isinstance(driver.run(make(spec, gathering(3, 99))).error, RuntimeError)
    assert isinstance(driver.run(make(spec, gathering(3, 1))).error, Unavailable)
    assert (array(driver.infer(spec, gathering(3, 1)).sent[0]) == np.full((3, 3), 2)).all()


@interpreted
def test_a_model_that_is_unloaded_meanwhile(driver: Driver, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling, go_on = threading.Event(), threading.Event()
    closed: list[Slot] = []
    recompiled, close = CompiledModel.recompiled, Slot.close

    def slowly(model: CompiledModel) -> CompiledModel:
        compiling.set()
        assert go_on.wait(20)
        return recompiled(model)

    def noted(slot: Slot) -> None:
        close(slot)
        closed.append(slot)

    monkeypatch.setattr(CompiledModel, "recompiled", slowly)
    monkeypatch.setattr(slots.Slot, "close", noted)
    old = driver.slot(spec)
    run = make(spec, {"x": LARGE})
    driver.engine.start(run)
    now(driver, run)
    driver.wait()
    assert compiling.wait(20)
    driver.engine.unload(spec)
    driver.woken.clear()
    go_on.set()
    assert driver.woken.wait(20)
    assert driver.engine.restored() == []
    assert closed[0] is old
    assert len(closed) == 2


def test_an_engine_that_is_closed_meanwhile(tmp_path: Path) -> None:
    driver = Driver()
    spec = driver.load(save(products(), tmp_path))
    run = make(spec, {"x": LARGE})
    driver.engine.start(run)
    now(driver, run)
    driver.wait()
    driver.engine.close()
    assert repr(driver.engine) == "<OpenVinoEngine 0 models, 0 running, 0 of them stopping>"


def test_a_result_of_sizes_that_its_inputs_rule_out_fails(driver: Driver, tmp_path: Path) -> None:
    """`unique` returns fewer elements than it takes; here the engine expects an equal number, as with `scale`."""
    spec = driver.load(models.unique(tmp_path))
    scale = ov.Core().read_model(models.scale(tmp_path))
    driver.slot(spec)._outputs._implied = ImpliedSizes(scale, spec.outputs)
    assert array(driver.infer(spec, {"x": f32(1, 2)}).sent[0]).tolist() == [1, 2]
    run = make(spec, {"x": f32(1, 1)})
    driver.engine.start(run)
    (ended,) = driver.wait()
    assert str(ended.error) == "output 'y' has shape [1], but axis 0 must equal axis 0 of an input of shape [2]"
    assert ended.restoring
    assert array(driver.infer(spec, {"x": f32(1, 1)}).sent[0]).tolist() == [1]
