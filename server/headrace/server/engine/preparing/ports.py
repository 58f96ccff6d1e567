"""The ports that options name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeVar

import openvino as ov

from headrace.server.engine.ports import names_of
from headrace.wire.errors import quote

ALL_OTHERS = "*"
"""Stands for the ports that are not named."""
T = TypeVar("T")


def named_options(model: ov.Model, kind: Literal["input", "output"], options: Mapping[str, T]) -> dict[str, T]:
    """The options of each port, by a name of it, without `*`. Raises ValueError for a port unknown or repeated."""
    found = {name: each for name, each in options.items() if name != ALL_OTHERS}
    if ALL_OTHERS in options:
        numbers = {*port_numbers(model, kind, found).values()}
        names = port_names(model, kind)
        found |= {name: options[ALL_OTHERS] for number, name in enumerate(names) if number not in numbers}
    return found


def options_by_number(model: ov.Model, kind: Literal["input", "output"], options: Mapping[str, T]) -> dict[int, T]:
    """The same by the number of the port."""
    named = named_options(model, kind, options)
    return {number: named[name] for name, number in port_numbers(model, kind, named).items()}


def port_names(model: ov.Model, kind: Literal["input", "output"]) -> list[str]:
    """The names of all ports, as clients see them."""
    return [names[0] for names in names_of(kind, model.inputs if kind == "input" else model.outputs)]


def port_numbers(model: ov.Model, kind: Literal["input", "output"], names: Collection[str]) -> dict[str, int]:
    """The number of each port that is named, by any of its names. Raises ValueError for one unknown or repeated."""
    if not names:
        return {}
    ports = names_of(kind, model.inputs if kind == "input" else model.outputs)
    known = {name: number for number, each in enumerate(ports) for name in each}
    for name in names:
        if name not in known:
            listed = ", ".join(quote(each[0], 40) for each in ports[:8])
            raise ValueError(f"it has no {kind} {quote(name)}; it has {listed}")
    numbers = {name: known[name] for name in names}
    if len({*numbers.values()}) < len(numbers):
        raise ValueError(f"the options name one {kind} twice")
    return numbers
