"""Layouts: which axis of an input is its height, its width, its channels and its batch."""

from __future__ import annotations

import re

import openvino as ov

from headrace.server.engine.port_options import InputOptions
from headrace.wire.errors import quote

_CHANNELS = (1, 3)
_LAYOUT = re.compile(r"[A-Z]+")


def model_layout(port: ov.Output, options: InputOptions) -> str:
    """The letters of the axes of a model's own input: as given, else as its file says, else as its channels say.

    Raises ValueError with a clause when that is impossible, or does not tell.
    """
    rank = _rank(port)
    if options.model_layout:
        return checked_layout(options.model_layout, "model_layout", rank)
    known = str(ov.layout_helpers.get_layout(port)).strip("[]").replace(",", "")
    if _LAYOUT.fullmatch(known) and len(known) == rank:
        return known
    guesses = [
        layout
        for layout in ("NCHW", "NHWC", "CHW", "HWC")
        if len(layout) == rank and _size(port, layout.index("C")) in _CHANNELS
    ]
    if len(guesses) != 1:
        shape = port.get_partial_shape()
        raise ValueError(f"its shape {shape} does not tell which axis is what: set model_layout, such as NCHW")
    return guesses[0]


def checked_layout(layout: str, key: str, rank: int) -> str:
    """A layout with a letter for each of `rank` axes. Raises ValueError for another one; `key` names the option."""
    letters = layout.strip("[] ").replace(",", "").upper()
    if not _LAYOUT.fullmatch(letters) or len({*letters}) < len(letters):
        raise ValueError(f"{key} {quote(layout)} is not a layout: write a letter for each axis, such as NHWC")
    if len(letters) != rank:
        raise ValueError(f"{key} {quote(layout)} has {len(letters)} axes, but the model's input has {rank}")
    return letters


def _rank(port: ov.Output) -> int:
    rank = port.get_partial_shape().rank
    if rank.is_dynamic:
        raise ValueError("the model takes any number of axes: set shape")
    return int(rank.get_length())


def _size(port: ov.Output, axis: int) -> int:
    dimension = port.get_partial_shape()[axis]
    return dimension.get_length() if dimension.is_static else -1
