"""A page is read by three models: where lines are, which way up they are, and what they say.

What is small travels: the page as PNG, a mask for the lines, a class for each direction, a class for each place of a
line. The text is that of plain OpenVINO and NumPy.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from PIL import Image, ImageDraw, ImageFont

import headrace.client as hc
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import InputOptions, OutputOptions
from tests.e2e.port_options import configured
from tests.e2e.serving import Served
from tests.packaged_models import ANGLES, CHARACTERS, LINES, WORDS, packaged
from tests.server.engine.decoding.pictures import png

Array = npt.NDArray[Any]
TEXT = ["Thank you for your order", "Deliver to the front door", "Total amount due"]
UPSIDE_DOWN = 1
"""The line of TEXT that is drawn upside down."""
CLASSES, PLACE = 6625, 4
"""Classes of WORDS, and the bytes of the largest one's index."""
PIXELS = InputOptions(datatype="UINT8", layout="NHWC", model_layout="NCHW", colour="RGB", model_colour="BGR",
                      mean=(127.5,), scale=(127.5,))  # fmt: skip
MODELS = {
    "lines": Compilation(
        inputs={
            "x": InputOptions(
                encoded=True,
                model_layout="NCHW",
                model_colour="BGR",
                mean=(123.675, 116.28, 103.53),
                scale=(58.395, 57.12, 57.375),
            )
        },
        outputs={"sigmoid_0.tmp_0": OutputOptions(threshold=0.3, cast="BOOL")},
    ),
    "angles": Compilation(inputs={"x": PIXELS}, outputs={"softmax_0.tmp_0": OutputOptions(argmax=True)}),
    "words": Compilation(inputs={"x": PIXELS}, outputs={"softmax_11.tmp_0": OutputOptions(argmax=True)}),
}


def page() -> Array:
    """The lines of TEXT. [height, width, 3], both multiples of 32, as the model of lines requires."""
    image = Image.new("RGB", (640, 320), "white")
    font = ImageFont.load_default(40)
    for number, text in enumerate(TEXT):
        line = Image.new("RGB", (600, 64), "white")
        ImageDraw.Draw(line).text((8, 8), text, "black", font)
        image.paste(line.rotate(180) if number == UPSIDE_DOWN else line, (20, 20 + 96 * number))
    return np.asarray(image)


def spans(mask: Array, least: int = 8) -> list[tuple[int, int]]:
    """Where a row of flags is set, from and to, by runs of some length."""
    found, at = [], 0
    for flag, run in groupby(mask.tolist()):
        count = len([*run])
        if flag and count >= least:
            found.append((at, at + count))
        at += count
    return found


def cut(image: Array, mask: Array) -> list[Array]:
    """The lines of text of a page, with what the model's mask leaves off their edges."""
    lines = []
    for top, bottom in spans(np.asarray(mask.any(1))):
        columns = np.flatnonzero(mask[top:bottom].any(0))
        margin = (bottom - top) * 3 // 4
        rows = slice(max(0, top - margin), bottom + margin)
        lines.append(image[rows, max(0, columns[0] - margin) : columns[-1] + margin])
    return lines


def of_height(line: Array, width: int = 0) -> Array:
    """UINT8[1,48,width,3]; the width that keeps the proportions, unless given."""
    width = width or round(48 * line.shape[1] / line.shape[0])
    return np.asarray(Image.fromarray(line).resize((width, 48), Image.Resampling.BILINEAR))[np.newaxis]


def text_of(classes: Array) -> str:
    """The characters of the classes of a line: repeated ones count once, and class 0 for nothing."""
    characters = ["", *packaged(*CHARACTERS).read_text("utf-8").splitlines(), " "]
    return "".join(characters[each] for each, _ in groupby(classes.tolist()))


async def test_a_page_is_read(tmp_path: Path) -> None:
    paths = {"lines": LINES, "angles": ANGLES, "words": WORDS}
    command = [f"{name}={packaged(*parts)}" for name, parts in paths.items()]
    command += ["--property=INFERENCE_PRECISION_HINT=f32", configured(tmp_path, **MODELS)]
    served = Served(command, tmp_path / "log")
    image = page()
    alone = ov.Core().compile_model(packaged(*WORDS), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with served:
        async with hc.connect(served.address) as server, server.stream() as stream:
            mask = (await (await stream.submit("lines", {"x": np.array([png(image)], object)})))["sigmoid_0.tmp_0"]
            assert mask.shape == (1, 1, 320, 640)
            assert mask.dtype == np.bool_
            lines = cut(image, mask[0, 0])
            directions = await (
                await stream.submit("angles", {"x": np.concatenate([of_height(line, 192) for line in lines])})
            )
            turned = directions["softmax_0.tmp_0"]
            assert turned.tolist() == [int(number == UPSIDE_DOWN) for number in range(len(TEXT))]
            upright = [of_height(line[::-1, ::-1] if turn else line) for line, turn in zip(lines, turned, strict=True)]
            tickets = [await stream.submit("words", {"x": line}) for line in upright]
            read = [(await ticket)["softmax_11.tmp_0"] for ticket in tickets]
    assert [text_of(classes[0]) for classes in read] == TEXT
    for line, classes in zip(upright, read, strict=True):
        logits = alone((line.astype(np.float32)[..., ::-1].transpose(0, 3, 1, 2) - 127.5) / 127.5)[0]
        assert text_of(logits[0].argmax(-1)) == text_of(classes[0])
        assert logits.nbytes == CLASSES * classes.nbytes
        assert classes.dtype.itemsize == PLACE
