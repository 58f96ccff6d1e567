"""Clients send what the options of an input say, and the model gets what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.port_options import InputOptions
from headrace.wire.errors import FailedPrecondition
from tests import models

Array = npt.NDArray[Any]
PIXELS = np.random.default_rng(1).integers(0, 256, (1, 8, 10, 3), np.uint8)
"""In the layout NHWC."""
MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def received(path: Path, options: InputOptions, data: Array) -> Array:
    """What the model gets when clients send `data`."""
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = compile_model(ov.Core(), "m", "1", path, Compilation(properties=properties, inputs={"x": options}))
    (port,) = compiled.spec.inputs
    assert port.admits(data.shape), f"{port} does not admit {data.shape}"
    assert port.names == ("x",)
    result: Array = compiled.runtime([data])[0]
    return result


def shown(path: Path, **options: Any) -> str:
    compiled = compile_model(ov.Core(), "m", "1", path, Compilation(inputs={"x": InputOptions(**options)}))
    assert compiled.spec.inputs[0].names == ("x",)
    return str(compiled.spec.inputs[0])


def nchw(pixels: Array) -> Array:
    return pixels.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("shape", "options", "port"),
    [
        ([1, 3, 8, 10], {"datatype": "UINT8"}, "UINT8[1,3,8,10]"),
        ([1, 3, 8, 10], {"datatype": "UINT8", "layout": "NHWC"}, "UINT8[1,8,10,3]"),
        ([-1, 3, 8, 10], {"datatype": "fp16", "layout": "NHWC", "model_layout": "NCHW"}, "FP16[?,8,10,3]"),
        ([1, 3, 8, 10], {"resize": "linear"}, "FP32[1,3,1..,1..]"),
        ([1, 3, 8, 10], {"layout": "NHWC", "resize": "nearest", "crop": (1, 2, 8, 9)}, "FP32[1,9..,11..,3]"),
        ([1, 3, 8, 10], {"crop": (0, 0, 8, 10)}, "FP32[1,3,8..,10..]"),
        ([-1, 1, 8, 10], {"colour": "RGB", "model_colour": "GRAY"}, "FP32[?,3,8,10]"),
        ([1, 3, 8, 10], {"colour": "GRAY", "model_colour": "BGR", "layout": "HWCN"}, "FP32[8,10,1,1]"),
        ([1, 3, -1, -1], {"shape": "1,3,8,?", "layout": "NHWC"}, "FP32[1,8,?,3]"),
        ([5, 7], {"layout": "TN", "model_layout": "NT"}, "FP32[7,5]"),
        ([1, 8, 10, 3], {"mean": MEAN}, "FP32[1,8,10,3]"),
    ],
)
def test_ports_show_what_is_to_be_sent(tmp_path: Path, shape: list[int], options: Mapping[str, Any], port: str) -> None:
    assert shown(models.image(tmp_path, [*shape]), **options) == port


def test_pixels_become_normalised_planes(tmp_path: Path) -> None:
    options = InputOptions(datatype="UINT8", layout="NHWC", mean=MEAN, scale=SCALE)
    expected = (nchw(PIXELS) - np.reshape(MEAN, (3, 1, 1))) / np.reshape(SCALE, (3, 1, 1))
    np.testing.assert_allclose(received(models.image(tmp_path), options, PIXELS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sent", "own"), [("BGR", "RGB"), ("RGB", "BGR"), ("RGB", "RGB")])
def test_mean_and_scale_are_in_the_order_of_the_models_colours(tmp_path: Path, sent: Any, own: Any) -> None:
    options = InputOptions(datatype="UINT8", layout="NHWC", colour=sent, model_colour=own, mean=(1, 2, 3))
    pixels = PIXELS if sent == own else PIXELS[..., ::-1]
    expected = nchw(pixels.astype(np.float32) - [1, 2, 3])
    np.testing.assert_array_equal(received(models.image(tmp_path), options, PIXELS), expected)


def test_colours_become_gray_and_gray_becomes_colours(tmp_path: Path) -> None:
    gray = InputOptions(datatype="UINT8", layout="NHWC", colour="BGR", model_colour="GRAY")
    path = models.image(tmp_path, [1, 1, 8, 10])
    expected = PIXELS[..., ::-1] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(received(path, gray, PIXELS)[:, 0], expected, atol=0.1)
    repeated = InputOptions(datatype="UINT8", layout="NHWC", colour="GRAY", model_colour="RGB", scale=(2,))
    expected = nchw(PIXELS[..., :1].repeat(3, 3)) / np.float32(2)
    np.testing.assert_array_equal(received(models.image(tmp_path), repeated, PIXELS[..., :1]), expected)


def test_crop_is_in_pixels_of_what_clients_send(tmp_path: Path) -> None:
    options = InputOptions(datatype="UINT8", layout="NHWC", crop=(3, 1, 4, 5))
    path = models.image(tmp_path, [1, 3, 4, 5])
    np.testing.assert_array_equal(received(path, options, PIXELS), nchw(PIXELS[:, 3:7, 1:6]).astype(np.float32))


@pytest.mark.parametrize("resize", ["linear", "cubic", "nearest", "bilinear_pillow", "bicubic_pillow"])
def test_resizing_to_the_same_size_changes_nothing(tmp_path: Path, resize: Any) -> None:
    options = InputOptions(datatype="UINT8", layout="NHWC", resize=resize)
    np.testing.assert_array_equal(received(models.image(tmp_path), options, PIXELS), nchw(PIXELS).astype(np.float32))


@pytest.mark.parametrize("type_name", ["f16", "bf16", "u8", "i32"])
def test_models_of_other_types(tmp_path: Path, type_name: str) -> None:
    path = models.image(tmp_path, type_name=type_name)
    compilation = Compilation(
        inputs={"x": InputOptions(datatype="UINT8", layout="NHWC", colour="BGR", model_colour="RGB")}
    )
    compiled = compile_model(ov.Core(), "m", "1", path, compilation)
    assert str(compiled.spec.inputs[0]) == "UINT8[1,8,10,3]"
    if type_name in ("u8", "i32"):
        np.testing.assert_array_equal(compiled.runtime([PIXELS])[0], nchw(PIXELS[..., ::-1]))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ([1, 3, 8, 10], {"layout": "NHWX"}, "layout NHWX does not have the axes of model_layout NCHW"),
        ([1, 3, 8, 10], {"layout": "NNHW"}, "layout 'NNHW' is not a layout: write a letter for each axis"),
        ([1, 3, 8, 10], {"layout": "HWC"}, "layout 'HWC' has 3 axes, but the model's input has 4"),
        ([1, 3, 8, 10], {"datatype": "U8"}, "'U8' is not a datatype of numbers: use one of BOOL, UINT8"),
        ([1, 3, 8, 10], {"mean": (1, 2)}, "mean has 2 numbers, but the model's input has 3 channels"),
        ([1, 3, 8, 10], {"scale": (1, 0, 1)}, "scale is 0, by which nothing can be divided"),
        ([1, 3, 8, 10], {"colour": "RGB"}, "it has colour, but no model_colour: say both"),
        ([1, 3, 8, 10], {"model_colour": "RGB"}, "it has model_colour, but no colour: say both"),
        ([1, 3, 8, 10], {"colour": "RGB", "model_colour": "GRAY"}, "GRAY has 1 channels, but the model's input NCHW"),
        ([1, 3, 8, 10], {"crop": (0, 0, 4, 10)}, "crop gives H 4, but the model takes 8: set resize"),
        ([1, 3, 8, 10], {"crop": (-1, 0, 8, 10)}, r"crop \[-1, 0, 8, 10\] is not \(top, left, height, width\)"),
        ([1, 3, -1, 10], {"resize": "linear"}, "resize needs the size that the model takes, which is dynamic"),
        ([1, 3, 3, 3], {"layout": "NHWC"}, "does not tell which axis is what: set model_layout, such as NCHW"),
        ([5, 7], {"layout": "NC"}, "does not tell which axis is what"),
        ([5, 7], {"model_layout": "NT", "layout": "NT", "resize": "linear"}, "model_layout NT has no H"),
        ([1, 3, 8, 10], {"encoded": True, "datatype": "UINT8"}, "datatype does not go with encoded"),
        ([1, 3, 8, 10], {"scaled_decoding": True}, "scaled_decoding is for encoded images"),
        (
            [1, 3, 8, 10],
            {"encoded": True, "resize": "linear", "scaled_decoding": True},
            "scaled_decoding needs one of the resizes bilinear_pillow, bicubic_pillow, and no crop",
        ),
        (
            [1, 3, 8, 10],
            {"encoded": True, "crop": (0, 0, 4, 10)},
            r"crop gives \[4, 10\], but the model takes \[8, 10\]",
        ),
        ([3, 8, 10], {"encoded": True}, "model_layout is CHW, but encoded images need NCHW or NHWC"),
    ],
)
def test_what_cannot_be_done_is_named(
    tmp_path: Path, shape: list[int], options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(FailedPrecondition, match=f"^model 'm' cannot be prepared: input 'x': .*{message}"):
        shown(models.image(tmp_path, [*shape]), **options)


def test_integers_cannot_be_normalised(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="input 'x': mean needs an input of floats, but the model's has u8"):
        shown(models.image(tmp_path, type_name="u8"), mean=(1.0,))
