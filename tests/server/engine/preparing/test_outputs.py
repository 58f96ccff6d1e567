"""Clients get what the options of an output say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import CompiledModel, compile_model
from headrace.server.engine.port_options import InputOptions, OutputOptions
from headrace.wire.errors import FailedPrecondition
from tests import models

Array = npt.NDArray[Any]
SCORES = np.random.default_rng(1).integers(-50, 50, (4, 10)).astype(np.float32)
"""With equal ones among them."""


def compiled(path: Path, **options: OutputOptions) -> CompiledModel:
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    return compile_model(ov.Core(), "m", "1", path, Compilation(properties=properties, outputs=options))


def computed(path: Path, options: OutputOptions, scores: Array = SCORES) -> dict[str, Array]:
    """The outputs by name; the model doubles its input first."""
    model = compiled(path, scores=options)
    results = model.runtime([scores / 2])
    return {port.name: results[port.index] for port in model.spec.outputs}


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (OutputOptions(softmax=True), softmax(SCORES)),
        (OutputOptions(slice=":,0:5"), SCORES[:, 0:5]),
        (OutputOptions(slice=":, -3:"), SCORES[:, -3:]),
        (OutputOptions(slice=":,:"), SCORES),
        (OutputOptions(argmax=True), SCORES.argmax(-1).astype(np.int32)),
        (OutputOptions(slice=":,2:", argmax=True), SCORES[:, 2:].argmax(-1).astype(np.int32)),
        (OutputOptions(argmax=True, cast="int64"), SCORES.argmax(-1)),
        (OutputOptions(threshold=7.5), np.where(SCORES < 7.5, 0, SCORES)),
        (OutputOptions(cast="FP16"), SCORES.astype(np.float16)),
        (OutputOptions(softmax=True, threshold=0.1, cast="FP16"), np.where(softmax(SCORES) < 0.1, 0, softmax(SCORES))),
    ],
)
def test_what_is_done_to_an_output(tmp_path: Path, options: OutputOptions, expected: Array) -> None:
    outputs = computed(models.scores(tmp_path), options)
    assert list(outputs) == ["scores", "relu"]
    np.testing.assert_allclose(outputs["scores"], expected, rtol=1e-3 if "16" in options.cast else 1e-5, atol=1e-6)
    if options.cast != "FP16":
        assert outputs["scores"].dtype == expected.dtype
    np.testing.assert_array_equal(outputs["relu"], SCORES.clip(0))


def test_the_largest_come_with_their_indices(tmp_path: Path) -> None:
    outputs = computed(models.scores(tmp_path), OutputOptions(softmax=True, topk=4, cast="FP16"))
    order = np.argsort(-SCORES, -1, kind="stable")[:, :4]
    assert list(outputs) == ["scores", "relu", "scores.indices"]
    np.testing.assert_array_equal(outputs["scores.indices"], order)
    assert outputs["scores.indices"].dtype == np.int32
    np.testing.assert_allclose(outputs["scores"], np.take_along_axis(softmax(SCORES), order, -1), rtol=1e-3, atol=1e-6)


def test_the_first_of_equal_ones_is_the_largest(tmp_path: Path) -> None:
    equal = np.repeat(np.array([[3, 7]], np.float32), 500, 1)
    equal = np.tile(equal, (8, 7))
    path = models.scores(tmp_path, [-1, equal.shape[1]])
    np.testing.assert_array_equal(computed(path, OutputOptions(argmax=True), equal)["scores"], equal.argmax(-1))
    indices = computed(path, OutputOptions(topk=3), equal)["scores.indices"]
    np.testing.assert_array_equal(indices, np.argsort(-equal, -1, kind="stable")[:, :3])


def test_outputs_of_one_source_have_options_of_their_own(tmp_path: Path) -> None:
    model = compiled(models.passed_through(tmp_path), output_2=OutputOptions(cast="INT32"))
    shown = [(port.name, port.datatype.name) for port in model.spec.outputs]
    assert shown == [("x", "INT64"), ("twice", "INT64"), ("output_2", "INT32")]
    model = compiled(models.passed_through(tmp_path), twice=OutputOptions(cast="INT32"))
    shown = [(port.name, port.datatype.name) for port in model.spec.outputs]
    assert shown == [("x", "INT64"), ("twice", "INT32"), ("output_2", "INT64")]


def test_an_input_passed_through_keeps_its_name(tmp_path: Path) -> None:
    model = compiled(models.passed_through(tmp_path), x=OutputOptions(cast="FP32"))
    assert [port.name for port in model.spec.inputs] == ["x"]
    assert str(model.spec.outputs[0]) == "FP32[?]"
    assert not model.passed


def test_prepared_models_still_run_directly_and_in_batches(tmp_path: Path) -> None:
    """Where that is asked for, so that nothing is measured: it is allowed only if nothing in the graph may fail."""
    outputs = {"scores": OutputOptions(softmax=True, topk=3, threshold=0.1), "relu": OutputOptions(cast="FP16")}
    scores = models.scores(tmp_path)
    model = compile_model(ov.Core(), "m", "1", scores, Compilation(run="direct", batch=8, outputs=outputs))
    assert (model.spec.direct, model.spec.batch) == (True, 8), model.spec.reasons()
    pixels = InputOptions(datatype="UINT8", layout="NHWC", colour="BGR", model_colour="RGB", mean=(1, 2, 3), scale=(2,))
    image = models.image(tmp_path, [-1, 3, 8, 10])
    model = compile_model(ov.Core(), "m", "1", image, Compilation(run="direct", batch=8, inputs={"x": pixels}))
    assert (model.spec.direct, model.spec.batch) == (True, 8), model.spec.reasons()
    resized = replace(pixels, resize="linear")
    model = compile_model(ov.Core(), "m", "1", image, Compilation(run="direct", inputs={"x": resized}))
    assert (model.spec.direct, model.spec.batch) == (True, 1), model.spec.reasons()
    files = InputOptions(encoded=True, resize="linear", mean=(1, 2, 3))
    model = compile_model(ov.Core(), "m", "1", image, Compilation(run="direct", batch=8, inputs={"x": files}))
    assert (model.spec.direct, model.spec.batch) == (False, 8), model.spec.reasons()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": 2, "softmax": True}, "axis is 2, but it has 2 axes"),
        ({"topk": 11}, "topk is 11, but axis 1 has 10 elements"),
        ({"topk": -1}, "topk is -1; it must be at least 1"),
        ({"topk": 1, "axis": 0}, "the size of axis 0 is dynamic, so it may have fewer elements than 1: set shape"),
        ({"topk": 1, "argmax": True}, "argmax and topk exclude each other"),
        ({"slice": ":,5:5"}, "the range 5:5 of slice is empty or leaves an axis of size 10"),
        ({"slice": ":,0:11"}, "the range 0:11 of slice is empty or leaves an axis of size 10"),
        ({"slice": "5"}, "slice '5' is not ranges of indices: write one for each axis"),
        ({"slice": ":,:,:"}, "slice ':,:,:' has 3 ranges, but it has shape"),
        ({"argmax": True, "threshold": 1.0}, "threshold applies to values, but argmax leaves indices"),
        ({"cast": "float"}, "'float' is not a datatype of numbers"),
    ],
)
def test_what_cannot_be_done_is_named(tmp_path: Path, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"^model 'm' cannot be prepared: output 'scores': {message}"):
        compiled(models.scores(tmp_path), scores=OutputOptions(**options))


def test_an_unknown_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="it has no output 'score'; it has 'scores', 'relu'"):
        compiled(models.scores(tmp_path), score=OutputOptions(softmax=True))


def test_labels_belong_to_an_output(tmp_path: Path) -> None:
    file = tmp_path / "fruit"
    file.write_text("apple\npear")
    spec = compiled(models.scores(tmp_path), relu=OutputOptions(labels=str(file))).spec
    assert [spec.labels_of(port) for port in spec.outputs] == [(), ("apple", "pear")]
    file.write_bytes(b"\xff")
    with pytest.raises(
        FailedPrecondition, match=r"output 'relu': labels cannot be read from '.*fruit': it is not valid UTF-8"
    ):
        compiled(models.scores(tmp_path), relu=OutputOptions(labels=str(file)))
    file.unlink()
    with pytest.raises(FailedPrecondition, match=r"output 'relu': labels cannot be read from '.*fruit': No such file"):
        compiled(models.scores(tmp_path), relu=OutputOptions(labels=str(file)))
