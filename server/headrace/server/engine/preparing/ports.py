"""The ports that options name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import openvino as ov

from headrace.server.engine.ports import ports_of
from headrace.wire.errors import quote


def port_numbers(model: ov.Model, kind: Literal["input", "output"], names: Collection[str]) -> dict[str, int]:
    """The number of each port that is named, by any of its names. Raises ValueError for one unknown or repeated."""
    if not names:
        return {}
    ports = ports_of("", kind, model.inputs if kind == "input" else model.outputs)
    known = {name: port.index for port in ports for name in port.names}
    for name in names:
        if name not in known:
            listed = ", ".join(quote(port.name, 40) for port in ports[:8])
            raise ValueError(f"it has no {kind} {quote(name)}; it has {listed}")
    numbers = {name: known[name] for name in names}
    if len({*numbers.values()}) < len(numbers):
        raise ValueError(f"the options name one {kind} twice")
    return numbers
