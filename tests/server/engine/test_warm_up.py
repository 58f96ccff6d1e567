"""A model may be warmed up: zeros run in each of its slots before it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.wire.errors import FailedPrecondition
from tests import models


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
