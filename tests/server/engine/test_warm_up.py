"""A model may be warmed up: zeros run in each of its slots before it serves."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import openvino as ov
import pytest

from headrace.server.engine import runtime
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.port_options import InputOptions
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.engine.slots import Slot
from headrace.server.engine.warm_up import warm_up_shapes
from headrace.wire.errors import FailedPrecondition
from tests import models
from tests.interpreted import interpreted


@pytest.mark.parametrize("make", [models.scale, models.scalar, models.strings, models.counter, models.large_scale])
@pytest.mark.parametrize("run", ["auto", "async"])
def test_every_slot_runs_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], run: Literal["auto", "async"]
) -> None:
    started: Counter[int] = Counter()  # not the requests: a slot that is closed waits until nobody has its own

    class Request(ov.InferRequest):  # type: ignore[misc]  # openvino has no types
        def start_async(self, *args: object) -> None:
            started[id(self)] += 1
            super().start_async(*args)

    path, compilation = make(tmp_path), Compilation(run=run, slots=3, batch=1, warm_up=2)
    findings = compile_model(ov.Core(), "m", "1", path, compilation).findings
    monkeypatch.setattr("openvino._ov_api.InferRequest", Request)
    engine = OpenVinoEngine()
    spec = engine.load("m", "1", path, compilation, findings=findings)
    assert [*started.values()] == [2, 2, 2]
    engine.unload(spec)
    engine.close()


def test_a_run_of_zeros_that_fails_is_an_error(tmp_path: Path) -> None:
    engine = OpenVinoEngine()
    with pytest.raises(FailedPrecondition, match=r"^model 'm' cannot be served: a run of zeros to warm it up fails: "):
        engine.load("m", "1", models.reshaping(tmp_path), Compilation(warm_up=1))
    engine.close()


@interpreted
def test_a_model_that_cannot_be_warmed_up_leaves_no_slots_behind(tmp_path: Path) -> None:
    made: list[weakref.ref[Slot]] = []

    class Noted(Slot):
        def __init__(self, *args: Any) -> None:
            made.append(weakref.ref(self))
            super().__init__(*args)

    engine = OpenVinoEngine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "Slot", Noted)
        for model in (models.reshaping, models.add_multiply):
            inputs = {"*": InputOptions(warm_up="2,17" if model is models.add_multiply else "")}
            with suppress(FailedPrecondition):
                engine.load("m", "1", model(tmp_path), Compilation(warm_up=1, slots=3, inputs=inputs))
    gc.collect()
    assert len(made) == 6
    assert [slot() for slot in made] == [None] * 6
    engine.close()


@pytest.mark.parametrize(
    ("shape", "warm_up", "warmed"),
    [([1, 3, 24, 32], "", (1, 24, 32, 3)), ([-1, 3, 24, 32], "4,24,32,3", (4, 24, 32, 3))],
)
def test_a_model_of_images_is_warmed_up_with_pixels(
    tmp_path: Path, shape: list[int], warm_up: str, warmed: tuple[int, ...]
) -> None:
    options = InputOptions(encoded=True, resize="linear", warm_up=warm_up)
    compilation = Compilation(warm_up=1, inputs={"x": options})
    compiled = compile_model(ov.Core(), "m", "1", models.image(tmp_path, shape), compilation)
    assert [*warm_up_shapes(compiled.runtime_spec.inputs, compilation).values()] == [warmed]
    engine = OpenVinoEngine()
    engine.unload(engine.load("m", "1", tmp_path / "image.xml", compilation))
    engine.close()


@pytest.mark.parametrize(("shape", "why"), [("2,17", "does not admit the shape 2,17"), ("two", "is not a shape")])
def test_a_shape_that_an_input_does_not_admit_is_an_error(tmp_path: Path, shape: str, why: str) -> None:
    engine = OpenVinoEngine()
    compilation = Compilation(warm_up=1, inputs={"*": InputOptions(warm_up=shape)})
    with pytest.raises(FailedPrecondition, match=rf"^model 'm' cannot be warmed up: .*{why}"):
        engine.load("m", "1", models.add_multiply(tmp_path), compilation)
    engine.close()


def test_the_options_of_all_others_are_not_those_of_an_input_that_is_named(tmp_path: Path) -> None:
    inputs = {"x": InputOptions(), "*": InputOptions(warm_up="5,16")}
    compiled = compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), Compilation(inputs=inputs))
    shapes = warm_up_shapes(compiled.runtime_spec.inputs, Compilation(inputs=inputs))
    assert {port.name: shape for port, shape in shapes.items()} == {"x": (1, 16), "y": (5, 16)}
