"""A variant computes some outputs of a model, from all of its inputs, to the bit as the model does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import CompiledModel, compile_model
from headrace.server.engine.port_options import InputOptions, OutputOptions
from headrace.server.engine.trial.messages import TrialRequest
from headrace.server.engine.trial.variant import Comparison, compile_both
from headrace.wire.errors import FailedPrecondition
from tests import models, stateful_models
from tests.saving import result, write
from tests.server.engine.bench import numbers
from tests.server.engine.decoding.pictures import jpeg, picture
from tests.server.engine.driver import Array, Driver, array, of, piece

F32 = Compilation(properties={"INFERENCE_PRECISION_HINT": "f32"})


def silent(_: str) -> None:
    pass


def compiled(path: Path, compilation: Compilation = F32) -> CompiledModel:
    return compile_model(ov.Core(), "m", "1", path, compilation)


def both(path: Path, *outputs: int, compilation: Compilation = F32) -> tuple[CompiledModel, CompiledModel]:
    """A model and its variant, as in a trial."""
    findings = compiled(path, compilation).findings
    return compile_both(ov.Core(), TrialRequest("m", "1", path, compilation, outputs, findings), silent)


def load_both(driver: Driver, path: Path, *outputs: int, compilation: Compilation = F32) -> tuple[ModelSpec, ModelSpec]:
    """The same, loaded as a server does."""
    full, variant = both(path, *outputs, compilation=compilation)
    spec = driver.engine.load("m", "1", path, compilation, ("cat",), full.findings, fingerprint=7)
    return spec, driver.engine.load_variant(spec, outputs, path, compilation, variant.findings)


def refused(full: CompiledModel, variant: CompiledModel) -> str:
    with pytest.raises(FailedPrecondition) as raised:
        Comparison(full, variant).compare(silent)
    return raised.value.message


@pytest.mark.parametrize(
    ("make", "run"),
    [
        (models.add_multiply, "auto"),
        (models.static_add_multiply, "auto"),
        (models.static_add_multiply, "async"),
        (models.bounded_add_multiply, "auto"),
        (models.scores, "auto"),
        (models.passed_through, "auto"),
        (models.two_heads, "async"),
        (models.half_failing, "auto"),
    ],
)
def test_a_variant_gives_the_same_bits(
    make: Callable[[Path], Path], run: Literal["auto", "async"], tmp_path: Path, driver: Driver
) -> None:
    path, compilation = make(tmp_path), Compilation(run=run, slots=1, batch=4, properties=F32.properties)
    count = len(compiled(path, compilation).spec.outputs)
    for size in range(1, count):
        for outputs in combinations(range(count), size):
            spec, variant = load_both(driver, path, *outputs, compilation=compilation)
            assert variant.inputs == spec.inputs
            assert [port.name for port in variant.outputs] == [spec.outputs[index].name for index in outputs]
            for seed in range(3):
                inputs = _inputs(spec, seed)
                expected = driver.infer(spec, inputs).sent
                found = driver.infer(variant, inputs, keep=[variant.outputs[0].name])
                assert [array(each).tobytes() for each in found.sent] == [
                    array(expected[index]).tobytes() for index in outputs
                ]
                assert array(found.kept[0]).tobytes() == array(expected[outputs[0]]).tobytes()


def _inputs(spec: ModelSpec, seed: int) -> dict[str, Array]:
    """Of 16 elements if they are vectors, which half_failing needs, and otherwise of 2 rows if that may be."""
    random = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for port in spec.inputs:
        shape = port.static_shape or ([16] if len(port.shape or ()) == 1 else [2, (port.shape or ())[1].min])
        values = random.standard_normal(shape)
        inputs[port.name] = values.astype(np.int64 if port.datatype.name == "INT64" else np.float32)
    return inputs


def test_rows_of_a_batch_have_the_same_bits(tmp_path: Path, driver: Driver) -> None:
    spec, variant = load_both(driver, models.two_heads(tmp_path), 0)
    assert variant.batch > 1
    rows = [{"x": numbers(seed, 1), "y": numbers(seed + 50, 1)} for seed in range(variant.batch)]
    expected = [array(driver.infer(spec, each, ["light"]).sent[0]) for each in rows]
    for count in (1, 2, variant.batch):
        found = driver.batch(of(*[piece(variant, each, ["light"]) for each in rows[:count]]))
        assert [array(each.sent[0]).tobytes() for each in found] == [each.tobytes() for each in expected[:count]]


def test_what_only_the_rest_needs_is_computed_no_more(tmp_path: Path) -> None:
    full, variant = both(models.two_heads(tmp_path), 0)
    assert variant.spec.weights_bytes < 1000 < full.spec.weights_bytes
    assert [port.any_name for port in variant.runtime.inputs] == ["x", "y"]  # as clients send them
    comparison = Comparison(full, variant)
    comparison.compare(silent)
    assert comparison._variant_seconds < comparison._full_seconds / 2


def test_a_variant_may_run_directly_and_in_batches_although_its_model_does_not(tmp_path: Path) -> None:
    full, variant = both(models.wide(tmp_path), 0)
    assert not full.spec.direct
    assert variant.spec.direct
    full, variant = both(models.half_failing(tmp_path), 0)
    assert full.spec.batch == 1
    assert full.spec.direct_reason
    assert variant.spec.direct


def test_a_model_that_runs_directly_and_in_batches_has_variants_that_do_without_being_timed(tmp_path: Path) -> None:
    full, variant = both(models.add_multiply(tmp_path), 1)
    assert full.spec.direct
    assert variant.spec.direct
    assert (variant.spec.batch, variant.findings.batch_reason) == (full.spec.batch, full.findings.batch_reason)


def test_requests_that_fail_only_in_the_rest_succeed(tmp_path: Path, driver: Driver) -> None:
    spec, variant = load_both(driver, models.half_failing(tmp_path), 0)
    for size in (15, 16, 5, 15):
        x = np.arange(size, dtype=np.float32)
        assert array(driver.infer(variant, {"x": x}).sent[0]).tolist() == (2 * x).tolist()
    with pytest.raises(RuntimeError):
        driver.infer(spec, {"x": np.arange(15, dtype=np.float32)}, ["twice"])


def test_requests_that_fail_in_what_is_asked_fail_and_spoil_nothing(tmp_path: Path, driver: Driver) -> None:
    _, variant = load_both(driver, models.half_failing(tmp_path), 1, compilation=replace(F32, slots=1))
    for number in range(6):
        size = 15 if number % 2 else 16
        x = np.arange(size, dtype=np.float32)
        result = driver.run(of(piece(variant, {"x": x})))
        assert (result.error is not None) == (size == 15)
        if size == 16:
            assert array(result.sent[0]).tolist() == x.reshape(2, 8).tolist()


def test_a_variant_is_described_as_its_model_is(tmp_path: Path, driver: Driver) -> None:
    path = models.two_heads(tmp_path)
    (tmp_path / "heavy.txt").write_text("a\nb\n")
    outputs = {"heavy": OutputOptions(labels=str(tmp_path / "heavy.txt"))}
    spec, variant = load_both(driver, path, 1, compilation=replace(F32, outputs=outputs, weight=3, priority=2))
    assert (variant.name, variant.version, variant.fingerprint) == ("m", "1", 7)
    assert (variant.weight, variant.priority) == (3, 2)
    assert variant.labels == ("cat",)
    assert [*variant.labels_of(variant.outputs[0])] == [*spec.labels_of(spec.outputs[1])] == ["a", "b"]
    assert (spec.prunes, variant.prunes) == (True, False)
    assert variant.pruned_to == (1,)
    assert str(variant).startswith("model 'm' version 1 pruned to 'heavy' (")


def test_images_are_decoded_for_a_variant_too(tmp_path: Path, driver: Driver) -> None:
    x = op.parameter([1, 3, 24, 32], np.float32, name="x")
    x.output(0).set_names({"x"})
    wide = op.matmul(
        op.reshape(x, np.array([1, 2304]), special_zero=False), np.ones((2304, 512), np.float32), False, False
    )
    outputs = [result("mean", op.reduce_mean(x, np.array([1, 2, 3]))), result("wide", wide)]
    path = write(tmp_path, "images", ov.Model(outputs, [x], "images"))
    options = InputOptions(encoded=True, resize="linear", scale=(255.0,))
    compilation = replace(F32, inputs={"x": options}, slots=1)
    spec, variant = load_both(driver, path, 0, compilation=compilation)
    assert [str(port) for port in variant.inputs] == [str(port) for port in spec.inputs] == ["BYTES[1]"]
    for number in range(3):
        file = {"x": np.array([jpeg(picture(50 + number, 60, number))], object)}
        expected = array(driver.infer(spec, file, ["mean"]).sent[0])
        assert array(driver.infer(variant, file).sent[0]).tobytes() == expected.tobytes()


def test_other_bits_are_found(tmp_path: Path) -> None:
    """Beside the variant of another model, whose weights are others in the last place."""
    (tmp_path / "other").mkdir()
    x, y = tmp_path, tmp_path / "other"
    full, variant = both(_weighted(x, np.float32(3)), 0)
    Comparison(full, variant).compare(silent)
    _, other = both(_weighted(y, np.nextafter(np.float32(3), np.float32(4))), 0)
    assert refused(full, other) == "for inputs of [1,4] output 'thrice' has other bits"


def _weighted(folder: Path, weight: np.float32) -> Path:
    x = op.parameter([-1, 4], np.float32, name="x")
    x.output(0).set_names({"x"})
    wide = op.relu(op.matmul(x, np.ones((4, 65536), np.float32), False, False))
    results = [result("thrice", op.multiply(x, weight)), result("wide", wide)]
    return write(folder, "weighted", ov.Model(results, [x], "weighted"))


def test_a_variant_that_fails_where_the_model_does_not_is_found(tmp_path: Path) -> None:
    _, twice = both(models.half_failing(tmp_path), 0)
    _, table = both(models.half_failing(tmp_path), 1)
    table = replace(table, spec=replace(table.spec, pruned_to=(0,)))
    assert refused(twice, table) == "a run of inputs of [1] fails, which the model does not"


def test_a_variant_that_saves_little_is_found(tmp_path: Path) -> None:
    full, variant = both(models.two_heads(tmp_path, width=1024), 1)
    assert refused(full, variant).startswith("it saves ")


def test_a_model_that_always_fails_has_nothing_to_compare(tmp_path: Path) -> None:
    full, variant = both(models.half_failing(tmp_path), 0)
    full = replace(full, accepts=lambda shapes: shapes[0] != [16])
    comparison = Comparison(full, variant)
    with pytest.raises(FailedPrecondition, match="could not be compared"):
        comparison.compare(silent, seconds=0)


def _stateful(folder: Path) -> Path:
    """x: f32[2] -> total: f32[2], the sum of every x; twice: f32[2], 2x."""
    x = stateful_models.named_input("x", [2])
    read, variable = stateful_models.read_value("total", [2], None)
    total = op.add(read, x)
    results = [result("total", total), result("twice", op.multiply(x, np.float32(2)))]
    return write(folder, "stateful", ov.Model(results, [op.assign(total, variable)], [x], "stateful"))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (models.scale, {}),  # one output
        (models.strings, {}),
        (_stateful, {}),
        (models.scores, {"prune": "off"}),
        (models.scores, {"device": "AUTO"}),
        (models.scores, {"outputs": {"scores": OutputOptions(topk=3)}}),
    ],
)
def test_what_is_never_pruned(make: Callable[[Path], Path], options: dict[str, object], tmp_path: Path) -> None:
    assert compiled(make(tmp_path), F32).spec.prunes == (make is models.scores)
    assert not compiled(make(tmp_path), replace(F32, **options)).spec.prunes  # type: ignore[arg-type]  # each of its own type
