"""The arguments --input and --shape: which port each one is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

GENERATED = ("random", "zeros")
"""The values whose arrays the client generates."""


class InputArgument(NamedTuple):
    """The value for an input and, if it is generated, an optional shape."""

    value: str
    shape: str | None = None


def parse_input_arguments(
    model: Model, inputs: Sequence[str], shapes: Sequence[str], default: str | None = None
) -> dict[Port, InputArgument]:
    """The argument for each input. Inputs without one get `default`, if given. Raises UsageError."""
    given = dict(_split(model, inputs, "=", "--input x=random"))
    sized = dict(_split(model, shapes, ":", "--shape x:1,3,224,224"))
    if default is not None:
        given |= {port: default for port in model.inputs if port not in given}
    for port in sized:
        if given.get(port) not in GENERATED:
            raise UsageError(f"--shape applies to random and zeros only, which input {quote(port.name)} is not")
    return {port: InputArgument(value, sized.get(port)) for port, value in given.items()}


def _split(model: Model, texts: Sequence[str], mark: str, example: str) -> Iterator[tuple[Port, str]]:
    """Yield each port with the rest of its argument. Any name of a port matches, and a name may contain the mark."""
    seen = set()
    names = sorted(((name, port) for port in model.inputs for name in {port.name, *port.names}), key=_by_length)
    for text in texts:
        port, value = next(
            ((port, text[len(name) + 1 :]) for name, port in names if text.startswith(name + mark)), (None, "")
        )
        if port is None:
            name, found, _ = text.partition(mark)
            if not found:
                raise UsageError(f"{quote(text)} is not of the form NAME{mark}...; for example {example}")
            known = ", ".join(map(str, model.inputs)) or "none"
            raise UsageError(f"model {quote(model.name)} has no input {quote(name)}; its inputs: {known}")
        if port in seen:
            raise UsageError(f"input {quote(port.name)} is given twice")
        seen.add(port)
        yield port, value


def _by_length(name: tuple[str, Port]) -> int:
    return -len(name[0])
