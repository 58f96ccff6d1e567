"""A compiled model that was kept is imported, and is the same model: its ports, and each bit of its answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from headrace.server.engine import blobs
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import CompiledModel, compile_model
from tests import models

F32 = Compilation(properties={"INFERENCE_PRECISION_HINT": "f32"})
BUILDS = (
    models.add_multiply,
    models.static_add_multiply,
    models.bounded_add_multiply,
    models.identity,
    models.passed_through,
    models.scalar,
    models.wide,
    models.counter,
    models.ranging,
    models.repeated,
    models.many_names,
    models.nameless,
    models.strings,
    models.onnx_add,
)


class Kept(dict[str, bytes]):
    """Blobs in memory. `hits` counts those that were found."""

    hits = 0
    takes_more = True

    def read(self, name: str) -> bytes | None:
        self.hits += name in self
        return self.get(name)

    def add(self, name: str, blob: bytes) -> None:
        self[name] = blob


def answers(model: CompiledModel) -> list[tuple[object, bytes]]:
    """The names, types, shapes and bytes of all outputs for inputs that are the same each time."""
    random = np.random.default_rng(3)
    request = model.runtime.create_infer_request()
    for port, each in zip(model.spec.inputs, model.runtime.inputs, strict=True):
        shape = [size.min if size.min == size.max else max(2, size.min) for size in port.shape or ()]
        if each.element_type == ov.Type.string:
            request.set_input_tensor(port.index, ov.Tensor(np.full(shape, "water")))
        else:
            numbers = np.asarray(8 * random.random(shape), each.element_type.to_dtype())
            request.set_input_tensor(port.index, ov.Tensor(numbers))
    request.start_async()
    request.wait()
    found: list[tuple[object, bytes]] = []
    for index, each in enumerate(model.runtime.outputs):
        tensor = request.get_output_tensor(index)
        strings = each.element_type == ov.Type.string
        data = tensor.bytes_data if strings else tensor.data
        found.append(((each.element_type, tuple(tensor.shape)), data.tobytes()))
    return found


@pytest.fixture
def all_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every compiled model, however long importing it takes."""
    monkeypatch.setattr(blobs, "is_worth_it", lambda *_: True)


@pytest.mark.usefixtures("all_worth_it")
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_an_imported_model_is_the_compiled_one(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    path, kept = build(tmp_path), Kept()
    measured = compile_model(ov.Core(), "m", "1", path, F32)
    compiled = compile_model(ov.Core(), "m", "1", path, F32, (), measured.findings, blobs=kept)
    assert (kept.hits, len(kept)) == (0, 1)
    imported = compile_model(ov.Core(), "m", "1", path, F32, (), measured.findings, blobs=kept)
    assert (kept.hits, len(kept)) == (1, 1)
    assert imported.spec == compiled.spec
    assert imported.passed == compiled.passed
    assert answers(imported) == answers(compiled) == answers(measured)
    if imported.is_fragile:
        assert answers(imported.recompiled()) == answers(measured)
        assert kept.hits == 2


@pytest.mark.usefixtures("all_worth_it")
def test_what_cannot_be_imported_is_compiled_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, kept = models.add_multiply(tmp_path), Kept()
    measured = compile_model(ov.Core(), "m", "1", path, F32)
    compile_model(ov.Core(), "m", "1", path, F32, (), measured.findings, blobs=kept)
    (name,) = kept
    good, kept[name] = kept[name], b"not a model"
    with caplog.at_level(logging.WARNING):
        again = compile_model(ov.Core(), "m", "1", path, F32, (), measured.findings, blobs=kept)
    assert "a compiled model is not valid, and is compiled again" in caplog.text
    assert answers(again) == answers(measured)
    assert len(kept[name]) == len(good)


def test_each_configuration_has_a_blob_of_its_own(tmp_path: Path) -> None:
    path, kept = models.wide(tmp_path), Kept()
    for compilation in (F32, Compilation(run="direct", properties=F32.properties), Compilation(hint="latency")):
        findings = compile_model(ov.Core(), "m", "1", path, compilation).findings
        compile_model(ov.Core(), "m", "1", path, compilation, (), findings, blobs=kept)
    assert (kept.hits, len(kept)) == (0, 3)


def test_what_is_not_imported_faster_is_not_kept_nor_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = models.add_multiply(tmp_path), Kept()
    measured = compile_model(ov.Core(), "m", "1", path, F32)
    monkeypatch.setattr(blobs, "is_worth_it", lambda *_: False)
    compile_model(ov.Core(), "m", "1", path, F32, (), measured.findings, blobs=kept)
    assert [*kept.values()] == [b""]

    def not_again(*_: object) -> None:
        raise AssertionError("it is imported")

    monkeypatch.setattr(ov.Core, "import_model", not_again)
    again = compile_model(ov.Core(), "m", "1", path, F32, (), measured.findings, blobs=kept)
    assert answers(again) == answers(measured)
    assert [*kept.values()] == [b""]


def test_a_slot_that_is_restored_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = models.add_multiply(tmp_path), Kept()
    findings = compile_model(ov.Core(), "m", "1", path, F32).findings
    kept.takes_more = False
    monkeypatch.setattr(ov.Core, "import_model", None)
    assert compile_model(ov.Core(), "m", "1", path, F32, (), findings, blobs=kept).recompiled()
    assert not kept


@pytest.mark.parametrize(
    ("compiling", "importing", "kept"),
    [(0.4, 0.1, True), (0.4, 0.3, True), (0.4, 0.31, False), (0.16, 0.51, False), (0.01, 0.001, False)],
)
def test_what_saves_a_quarter_and_can_be_felt_is_kept(compiling: float, importing: float, kept: bool) -> None:
    assert blobs.is_worth_it(compiling, importing) is kept
