"""The shapes of the zeros that warm a model up."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.specs import Port
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.ports import smallest_shape
from headrace.server.engine.preparing.ports import ALL_OTHERS
from headrace.wire.errors import quote


def warm_up_shapes(ports: Sequence[Port], compilation: Compilation) -> dict[Port, tuple[int, ...]]:
    """The shape for each input: that of its options, or the smallest one. Raises ValueError with a clause."""
    shapes: dict[Port, tuple[int, ...]] = {}
    for port in ports:
        options = next(
            (compilation.inputs[name] for name in (*port.names, ALL_OTHERS) if name in compilation.inputs), None
        )
        text = options.warm_up if options is not None else ""
        shapes[port] = _sizes(text) if text else smallest_shape(port)
        if not port.admits(shapes[port]):
            raise ValueError(f"input {quote(port.name)} is {port}, which does not admit the shape {text}")
    return shapes


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.strip().removeprefix("[").removesuffix("]").split(","))
    except ValueError:
        raise ValueError(f"{quote(text)} is not a shape: write one such as 1,3,224,224") from None
