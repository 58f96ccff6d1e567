"""Which models are compiled for direct runs: those that are quick and cannot fail because of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from tests import models
from tests.server.engine.driver import Driver, array, f32, make


@pytest.mark.parametrize("steps", [1, 24])
def test_a_slow_model_is_not_compiled_for_direct_runs(driver: Driver, tmp_path: Path, steps: int) -> None:
    """A product of two matrices of 1024x1024 takes ten times as long as a hop."""
    spec = driver.load(models.slow(tmp_path, steps=steps), run="auto")
    for _ in range(3):
        driver.infer(spec, {"x": f32(1)})
    assert driver.in_place == 0


@pytest.mark.parametrize("run", ["auto", "direct"])
def test_a_model_that_may_fail_because_of_data_does_not_run_in_place(driver: Driver, tmp_path: Path, run: str) -> None:
    """The runtime would not raise, and would leave another client's result in the output."""
    spec = driver.load(models.reshaping(tmp_path), run=run, hint="latency")  # type: ignore[arg-type]
    for number in range(5):
        x = np.full(16, number, np.float32)
        good = driver.infer(spec, {"x": x, "shape": np.array([2, 8])})
        assert (array(good.sent[0]) == x.reshape(2, 8)).all()
        bad = driver.run(make(spec, {"x": x, "shape": np.array([3, 5])}))
        assert isinstance(bad.error, RuntimeError)
    assert driver.in_place == 0


def test_a_model_whose_body_may_fail_does_not_run_in_place(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.choosing(tmp_path), run="direct", hint="latency")
    for number in range(5):
        x = np.full(16, number, np.float32)
        for shape, sure in (([2, 8], False), ([3, 5], True)):
            good = driver.infer(spec, {"x": x, "shape": np.array(shape), "sure": np.array(sure)})
            assert array(good.sent[0]) == 16 * number
        bad = driver.run(make(spec, {"x": x, "shape": np.array([3, 5]), "sure": np.array(False)}))
        assert isinstance(bad.error, RuntimeError)
    assert driver.in_place == 0


def test_direct_runs_are_pinned_to_a_core_only_if_the_operator_wants_that(tmp_path: Path) -> None:
    """Each would move the event loop's thread to that core, which the thread of a client may have."""
    core, model = ov.Core(), models.add_multiply(tmp_path)
    for properties, pinned in (({}, False), ({"ENABLE_CPU_PINNING": "YES"}, True)):
        configuration = Compilation(properties=properties).direct_configuration
        compiled = core.compile_model(model, "CPU", configuration)
        assert compiled.get_property("ENABLE_CPU_PINNING") is pinned
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
