"""ResNet-50 by images of 8 bits and by JPEG, against its preprocessing in NumPy and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
from PIL import Image

from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import InputOptions, OutputOptions
from tests import models
from tests.server.engine.decoding.pictures import jpeg, picture
from tests.server.engine.driver import Driver, array

Array = npt.NDArray[Any]
MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
F32 = {"INFERENCE_PRECISION_HINT": "f32"}
INPUT, OUTPUT = "gpu_0/data_0", "gpu_0/softmax_1"
PHOTO = jpeg(picture(480, 640), quality=92)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.resnet(tmp_path_factory.mktemp("resnet"))


@pytest.fixture(scope="module")
def resnet(path: Path) -> ov.CompiledModel:
    return ov.Core().compile_model(path, "CPU", F32)


Load = Callable[..., ModelSpec]


@pytest.fixture
def load(driver: Driver, path: Path) -> Load:
    def load(options: InputOptions, output: OutputOptions | None = None) -> ModelSpec:
        outputs = {} if output is None else {OUTPUT: output}
        compilation = Compilation(
            run="async", properties=F32, slots=1, batch=1, inputs={INPUT: options}, outputs=outputs
        )
        return driver.engine.load("resnet", "1", path, compilation)

    return load


def preprocessed(pixels: Array) -> Array:
    """[height, width, 3] -> f32[1,3,224,224]."""
    normalised = (pixels.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(SCALE, np.float32)
    result: Array = normalised.transpose(2, 0, 1)[np.newaxis]
    return result


def resized(file: bytes) -> Array:
    image = Image.open(io.BytesIO(file))
    return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))


def test_the_model_tells_pictures_apart(resnet: ov.CompiledModel) -> None:
    """Otherwise nothing here would prove anything: the others allow a difference of 1e-3."""
    pixels = picture(224, 224)
    first = resnet(preprocessed(pixels))[0].copy()
    for other in (picture(224, 224, seed=1), picture(224, 224, seed=2), pixels[:, :, ::-1]):
        assert np.abs(resnet(preprocessed(other))[0] - first).max() > 0.02


def test_pixels_of_8_bits(driver: Driver, load: Load, resnet: ov.CompiledModel) -> None:
    spec = load(InputOptions(datatype="UINT8", layout="NHWC", mean=MEAN, scale=SCALE))
    assert str(spec.inputs[0]) == "UINT8[1,224,224,3]"
    pixels = resized(PHOTO)
    sent = array(driver.infer(spec, {INPUT: pixels[np.newaxis]}).sent[0])
    np.testing.assert_allclose(sent, resnet(preprocessed(pixels))[0], atol=1e-3, rtol=1e-3)


def test_pixels_of_any_size_and_bgr(driver: Driver, load: Load, resnet: ov.CompiledModel) -> None:
    options = InputOptions(
        datatype="UINT8",
        layout="NHWC",
        colour="BGR",
        model_colour="RGB",
        resize="bilinear_pillow",
        mean=MEAN,
        scale=SCALE,
    )
    spec = load(options)
    assert str(spec.inputs[0]) == "UINT8[1,1..,1..,3]"
    pixels = np.asarray(Image.open(io.BytesIO(PHOTO)))[np.newaxis, :, :, ::-1]
    sent = array(driver.infer(spec, {INPUT: np.ascontiguousarray(pixels)}).sent[0])
    np.testing.assert_allclose(sent, resnet(preprocessed(resized(PHOTO)))[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(480, 640), (2400, 1800), (224, 224), (100, 150)])
def test_jpeg(driver: Driver, load: Load, resnet: ov.CompiledModel, size: tuple[int, int]) -> None:
    spec = load(InputOptions(encoded=True, resize="bilinear_pillow", mean=MEAN, scale=SCALE))
    assert str(spec.inputs[0]) == "BYTES[1]"
    photo = jpeg(picture(*size, seed=size[0]), quality=92)
    sent = array(driver.infer(spec, {INPUT: np.array([photo], object)}).sent[0])
    np.testing.assert_allclose(sent, resnet(preprocessed(resized(photo)))[0], atol=1e-3, rtol=1e-3)


def test_the_five_best_classes(driver: Driver, load: Load, resnet: ov.CompiledModel) -> None:
    spec = load(
        InputOptions(datatype="UINT8", layout="NHWC", mean=MEAN, scale=SCALE),
        OutputOptions(topk=5),
    )
    assert [str(port) for port in spec.outputs] == ["FP32[1,5]", "INT32[1,5]"]
    pixels = resized(PHOTO)
    values, indices = [array(tensor) for tensor in driver.infer(spec, {INPUT: pixels[np.newaxis]}).sent]
    expected = resnet(preprocessed(pixels))[0]
    assert indices[0].tolist() == np.argsort(-expected[0], kind="stable")[:5].tolist()
    np.testing.assert_allclose(values[0], np.sort(expected[0])[::-1][:5], rtol=1e-3)


def test_what_a_frame_takes_on_the_wire() -> None:
    """As f32, as pixels of 8 bits, and as JPEG of a photograph of 640 x 480."""
    pixels = resized(PHOTO)
    assert preprocessed(pixels).nbytes == 602_112
    assert pixels.nbytes == 150_528
    assert len(jpeg(pixels, quality=90)) < 40_000
