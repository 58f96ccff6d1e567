"""What an operator asks for an input or an output of a model: values, which `preparing` applies to the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How clients send an input, and what is done to it before the model gets it.

    Everything is as the model has it unless given. `shape` is that of the model's own input, in which `?` and `2..8`
    are dynamic dimensions, such as `1,3,?,?`. `datatype` is a name of the Open Inference Protocol. A `layout` has a
    letter for each axis, such as NHWC; `model_layout` is the model's. `colour` is what clients send, `model_colour`
    what the model takes. `encoded`: clients send files of JPEG or PNG, as strings. `scaled_decoding`: a JPEG that is
    much larger than the model's input is decoded at a fraction of its size, in half the time; its pixels then differ by
    0.2 to 0.4 of 255 on average. `crop` is (top, left, height,
    width), in pixels of what clients send. `mean` and `scale` have one number, or one for each channel, in the order of
    `model_colour`: the model gets (value - mean) / scale. `reshape` is the shape in which clients send all of this,
    with the same elements in the same order, such as `3,224,224`. `warm_up` is the shape of the zeros that warm the
    model up: the smallest one unless given.
    """

    shape: str = ""
    datatype: str = ""
    layout: str = ""
    model_layout: str = ""
    encoded: bool = False
    scaled_decoding: bool = False
    colour: Literal["", "RGB", "BGR", "GRAY"] = ""
    model_colour: Literal["", "RGB", "BGR", "GRAY"] = ""
    resize: Literal["", "linear", "cubic", "nearest", "bilinear_pillow", "bicubic_pillow"] = ""
    crop: tuple[int, int, int, int] | None = None
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    reshape: str = ""
    warm_up: str = ""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What is done to an output before clients get it, in this order.

    `softmax` and `argmax` work along `axis`. `topk` replaces the output by the K largest values along it and adds an
    output of their indices, whose name ends in `.indices`. `slice` is a range of indices for each axis, such as
    `:,0:5`. `threshold` sets what is smaller to zero. `cast` is a datatype of the Open Inference Protocol. `labels` is
    a file with the names of the classes, a line each. `reshape` is the shape in which clients get all of this, such as
    `1000`.
    """

    softmax: bool = False
    slice: str = ""
    argmax: bool = False
    topk: int = 0
    axis: int = -1
    threshold: float | None = None
    cast: str = ""
    labels: str = ""
    reshape: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedPort:
    """An input or output that a model has as read. `origin` is where that is written: a file and a line.

    The name `*` stands for the only one. `datatype` is a name of the Open Inference Protocol, `shape` one such as
    `?,3,224,224` that must fit the model's; neither matters where it is empty.
    """

    kind: Literal["input", "output"]
    name: str
    origin: str
    datatype: str = ""
    shape: str = ""
