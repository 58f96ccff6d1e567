"""The notations of values in a config.json. Each function raises ValueError with a clause for what it does not know."""

from __future__ import annotations

import json
import re
from typing import Any

DYNAMIC = "dynamic"
_DATATYPES = (
    *("BF16", "FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8"),
    *("UINT64", "UINT32", "UINT16", "UINT8"),
)
_COLOURS = ("RGB", "BGR", "GRAY")
_LAYOUT = re.compile(r"[A-Z]+")


def dimension(text: str) -> str:
    """`16`, `-1`, `1:8` or `auto`."""
    text = text.replace(" ", "")
    if text in ("auto", "-1"):
        return "?"
    if re.fullmatch(r"[0-9]+", text):
        return text
    if re.fullmatch(r"[0-9]+:[0-9]+", text):
        return text.replace(":", "..")
    raise ValueError(f"{text!r} is not a dimension: 16, -1, 1:8 or auto is expected")


def shape(value: str | list[int]) -> str:
    """`(1,3,200:500,-1)`, `auto`, or a list of numbers."""
    if isinstance(value, list):
        return ",".join(dimension(str(each)) for each in value)
    text = value.replace(" ", "")
    if text == "auto":
        return DYNAMIC
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError(f"{value!r} is not a shape: one such as (1,3,224,224), or auto, is expected")
    return ",".join(map(dimension, text[1:-1].removesuffix(",").split(",")))


def layouts(text: str) -> dict[str, str]:
    """`NHWC:NCHW`: what clients send, and what the model has; or the model's alone."""
    sent, _, own = text.upper().replace(" ", "").partition(":")
    if not own and sent == "N...":
        return {}  # so it is in any case
    for each in (sent, own or sent):
        if not _LAYOUT.fullmatch(each):
            raise ValueError(f"{each!r} is not a layout with a letter for each axis, such as NHWC")
    if not own or sent == own:
        return {"model_layout": own or sent}
    return {"layout": sent, "model_layout": own}


def numbers(value: float | str | list[float]) -> list[float]:
    """A number, a list, or such as `(123.7,116.3,103.5)`."""
    if isinstance(value, str):
        text = value.replace(" ", "")
        if (text[:1], text[-1:]) in (("(", ")"), ("[", "]")):
            text = text[1:-1].removesuffix(",")
        try:
            return [float(each) for each in text.split(",")]
        except ValueError:
            raise ValueError(f"{value!r} is not a number or a tuple of numbers, such as (123.7,116.3,103.5)") from None
    return value if isinstance(value, list) else [value]


def colours(text: str) -> dict[str, str]:
    """`BGR:RGB`: clients send the second one, which becomes the first, the model's."""
    own, _, sent = text.upper().partition(":")
    for each in (own, sent):
        if each not in _COLOURS:
            raise ValueError(f"{text!r} is not two of {', '.join(_COLOURS)}, such as BGR:RGB")
    return {"colour": sent, "model_colour": own}


def datatypes(text: str) -> tuple[str, str]:
    """`uint8:fp32`: what clients send, and what the model has."""
    sent, _, own = text.upper().partition(":")
    for each in (sent, own):
        if each not in _DATATYPES:
            raise ValueError(f"{text!r} is not two datatypes of {', '.join(_DATATYPES)}, such as uint8:fp32")
    return sent, own


def parsed(value: dict[str, Any] | str) -> Any:
    """An object, or a string that has one as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"{value!r} is not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("it is not valid JSON: it is nested too deeply") from None


def version_policy(value: dict[str, Any] | str) -> str | list[int]:
    """`{"latest": {"num_versions": 2}}`, `{"specific": {"versions": [1, 3]}}` or `{"all": {}}`, as a model has it."""
    policy = parsed(value)
    match policy:
        case {"all": {}, **others} if not others and not policy["all"]:
            return "all"
        case {"latest": {"num_versions": int(number), **inner}, **others} if number > 0 and not inner and not others:
            return f"latest {number}"
        case {"specific": {"versions": [*numbers], **inner}, **others} if numbers and not inner and not others:
            if all(type(each) is int and each > 0 for each in numbers):
                return numbers
    raise ValueError('{"latest": {"num_versions": 2}}, {"specific": {"versions": [1, 3]}} or {"all": {}} is expected')
