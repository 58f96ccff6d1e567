"""Sets the shapes of inputs."""

from __future__ import annotations

from collections.abc import Mapping

import openvino as ov

from headrace.server.engine.reasons import reason_of
from headrace.wire.errors import quote


def reshape(model: ov.Model, shapes: Mapping[int, str]) -> None:
    """Give inputs, by number, shapes such as `1,3,?,?` or `1..8,3,224,224`. Raises ValueError."""
    if not shapes:
        return
    wanted = {model.inputs[number]: partial_shape(text) for number, text in shapes.items()}
    try:
        model.reshape(wanted)
    except RuntimeError as error:
        listed = ", ".join(f"{port.any_name if port.names else 'input'}: {shape}" for port, shape in wanted.items())
        raise ValueError(f"it cannot have inputs of the shapes {quote(listed, 400)}: {reason_of(error)}") from error


def partial_shape(text: str) -> ov.PartialShape:
    """Raises ValueError for a text that is not a shape."""
    try:
        return ov.PartialShape(f"[{text.strip().removeprefix('[').removesuffix(']')}]")
    except RuntimeError:
        raise ValueError(f"{quote(text)} is not a shape: write one such as 1,3,224,224 or 1..8,3,?,?") from None
