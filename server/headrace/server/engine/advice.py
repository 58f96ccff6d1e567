"""What an operator may do about a model that the runtime refuses."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ADVICE = (
    (
        re.compile(r"Unable to read the model"),
        "the file is damaged, or is not IR (.xml with .bin), ONNX, TensorFlow, TFLite or Paddle",
    ),
    (re.compile(r"can't be parsed"), "the file is damaged or not complete"),
    (
        re.compile(r"bin file|Empty weights"),
        "its weights belong beside it, in a file of the same name that ends in .bin",
    ),
    (
        re.compile(r"unsupported opset|[Nn]o conversion rule|is not supported for conversion"),
        "if the operation comes from a library, name that with --extension",
    ),
)
_DEVICE = re.compile(r"is not registered in the OpenVINO Runtime|Cannot load library|No available devices")


def reading_advice(reason: str) -> str:
    """What to do about a file that cannot be read, with a separator before it; empty if that is not known."""
    return next((f"; {advice}" for pattern, advice in _ADVICE if pattern.search(reason)), "")


def compiling_advice(reason: str, devices: Sequence[str]) -> str:
    """What to do about a model that cannot be compiled where there are these `devices`; empty if that is not known."""
    return f"; the devices of this machine are {', '.join(devices)}" if _DEVICE.search(reason) else ""
