"""The ports that options name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeVar

import openvino as ov

from headrace.server.engine.ports import ports_of
from headrace.wire.errors import quote

ALL_OTHERS = "*"
"""Stands for the ports that are not named."""
T = TypeVar("T")


def options_by_number(model: ov.Model, kind: Literal["input", "output"], options: Mapping[str, T]) -> dict[int, T]:
    """The options of each port that has any, by its number. Raises ValueError for a port unknown or repeated."""
    named = [name for name in options if name != ALL_OTHERS]
    found = {number: options[name] for name, number in port_numbers(model, kind, named).items()}
    if ALL_OTHERS in options:
        count = len(model.inputs if kind == "input" else model.outputs)
        found = {number: found.get(number, options[ALL_OTHERS]) for number in range(count)}
    return found


def port_names(model: ov.Model, kind: Literal["input", "output"]) -> list[str]:
    """The names of all ports, as clients see them."""
    return [port.name for port in ports_of("", kind, model.inputs if kind == "input" else model.outputs)]


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
