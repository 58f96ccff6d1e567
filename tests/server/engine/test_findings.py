"""The findings of a trial are a value that can be written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.findings import Findings
from headrace.server.engine.models import compile_model
from tests import models

FINDINGS = Findings(True, "", 64, "up to 64 rows", 1, 1, True, 0.25)


def test_the_value_survives_json() -> None:
    assert Findings.from_json(json.loads(json.dumps(FINDINGS.to_json()))) == FINDINGS


@pytest.mark.parametrize(
    "change",
    [
        {"direct": 1},
        {"direct": "true"},
        {"batch": 0},
        {"batch": 65},
        {"batch": True},
        {"streams": 0},
        {"threads": -1},
        {"replacement_seconds": float("nan")},
        {"replacement_seconds": -1.0},
        {"replacement_seconds": 1},
        {"batch_reason": None},
        {"batch_reason": "x" * 1001},
        {"more": 1},
    ],
    ids=str,
)
def test_anything_else_is_not_a_value(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Findings.from_json({**FINDINGS.to_json(), **change})


@pytest.mark.parametrize("document", [None, [], 1, "x", {}, {"direct": True}])
def test_nor_is_another_document(document: object) -> None:
    with pytest.raises(ValueError, match="keys"):
        Findings.from_json(document)


@pytest.mark.parametrize("run", ["auto", "direct", "async"])
@pytest.mark.parametrize(
    "build", [models.add_multiply, models.static_add_multiply, models.counter, models.reshaping, models.passed_through]
)
def test_a_model_that_was_found_out_is_not_measured_again(tmp_path: Path, run: Any, build: Any) -> None:
    path, core, compilation = build(tmp_path), ov.Core(), Compilation(run=run)
    tried = compile_model(core, "m", "1", path, compilation)
    loaded = compile_model(core, "m", "1", path, compilation, findings=tried.findings)
    assert loaded.findings == tried.findings
    assert loaded.spec == tried.spec
    assert (loaded.spec.direct_reason, loaded.spec.batch_reason) == (tried.spec.direct_reason, tried.spec.batch_reason)
    assert loaded.is_fragile == tried.is_fragile
    assert (loaded.accepts is None) == (tried.accepts is None)
    assert loaded.replacement_seconds == tried.replacement_seconds
    for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT"):
        assert loaded.runtime.get_property(name) == tried.runtime.get_property(name)


def test_findings_decide_and_not_what_would_be_measured(tmp_path: Path) -> None:
    path, core = models.add_multiply(tmp_path), ov.Core()
    found = compile_model(core, "m", "1", path, Compilation()).findings
    chosen = replace(found, direct=False, direct_reason="so it was found", batch=7, batch_reason="up to 7 rows")
    spec = compile_model(core, "m", "1", path, Compilation(), findings=chosen).spec
    assert (spec.direct, spec.direct_reason, spec.batch, spec.batch_reason) == (
        False,
        "so it was found",
        7,
        "up to 7 rows",
    )
    assert spec.reasons() == "it does not run directly: so it was found; it runs in batches of up to 7 rows"
