"""Sets the shapes of inputs."""

from __future__ import annotations

from collections.abc import Mapping

import openvino as ov

from headrace.server.engine.reasons import reason_of
from headrace.wire.errors import quote

REST = "..."
"""At the end of a shape: the other dimensions as the model has them."""
DYNAMIC = "dynamic"
"""The shape in which every dimension is dynamic."""


def reshape(model: ov.Model, shapes: Mapping[int, str]) -> None:
    """Give inputs, by number, shapes such as `1,3,?,?`, `1..8,3,224,224` or `8,...`. Raises ValueError."""
    if not shapes:
        return
    wanted = {
        model.inputs[number]: partial_shape(text, model.inputs[number].get_partial_shape())
        for number, text in shapes.items()
    }
    try:
        model.reshape(wanted)
    except RuntimeError as error:
        listed = ", ".join(f"{port.any_name if port.names else 'input'}: {shape}" for port, shape in wanted.items())
        raise ValueError(f"it cannot have inputs of the shapes {quote(listed, 400)}: {reason_of(error)}") from error


def partial_shape(text: str, own: ov.PartialShape) -> ov.PartialShape:
    """The shape that a text names, for a port that has the shape `own`. Raises ValueError for another text."""
    text = text.strip().removeprefix("[").removesuffix("]")
    rest: list[str] = []
    if text == DYNAMIC or text.endswith(REST):
        if own.rank.is_dynamic:
            raise ValueError(f"{quote(text)} is not a shape for an input of any rank: give all of its dimensions")
        given = text.removesuffix(REST).rstrip(" ,")
        first = given.count(",") + 1 if given else 0
        if text == DYNAMIC:
            given, rest = "", ["?"] * len(own)
        else:
            rest = [str(own[axis]) for axis in range(first, len(own))]
        text = ",".join(filter(None, (given, *rest)))
    try:
        return ov.PartialShape(f"[{text}]")
    except RuntimeError:
        raise ValueError(f"{quote(text)} is not a shape: write one such as 1,3,224,224 or 1..8,3,?,?") from None
