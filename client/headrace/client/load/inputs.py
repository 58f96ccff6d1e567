"""What is sent: sets of inputs, made or read before anything begins, and sent in turn.

Inputs that nobody names are random, in a few different sets, so that a cache is not all that is measured. A folder of
.npy files and a JSON Lines file give a set for each file and line; they go together one by one, so all have the same
length, and what is random beside them is another for each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headrace.client.load.calling import Inputs
from headrace.client.load.lines import read_lines
from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.input_arguments import GENERATED, InputArgument, parse_input_arguments
from headrace.client.terminal.input_arrays import Array, input_array
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote
from headrace.wire.tensors import to_wire

MAX_SETS = 1024
MAX_BYTES = 256 << 20
"""Of all sets together."""
RANDOM_SETS, RANDOM_BYTES = 8, 32 << 20
"""How many sets are made where nothing but their size says how many, and what they may take."""


class RequestInputs(NamedTuple):
    """The sets, and a text for each input, such as `x FP32[1,16] random`."""

    sets: Sequence[Inputs]
    texts: tuple[str, ...]


class _Source(NamedTuple):
    """Where an input comes from. `arrays`: one for all sets, or one for each; none where it is random."""

    text: str
    arrays: Sequence[Array]


def request_inputs(
    model: Model, inputs: Sequence[str], shapes: Sequence[str], jsonl: Path | None, seed: int
) -> RequestInputs:
    """The same for the same seed. Raises UsageError, also for over 1,024 sets and over 256 MiB of them."""
    named = parse_input_arguments(model, inputs, ())
    asked = parse_input_arguments(model, inputs, shapes, default="random")
    sources: dict[Port, _Source] = {}
    if jsonl is not None:
        columns = read_lines(model, jsonl, MAX_SETS, MAX_BYTES)
        for port, arrays in columns.items():
            if port in named or asked.pop(port).shape is not None:
                raise UsageError(f"input {quote(port.name)} is in {jsonl}, so it is not given beside it")
            sources[port] = _Source(f"{_counted(arrays, 'line')} of {jsonl}", arrays)
    sources |= {port: _source(port, each) for port, each in asked.items()}
    _check_size(sum(_size(array) for source in sources.values() for array in source.arrays))

    made = _first_made(asked, sources, seed)
    count = _count(sources, made)
    sets = [_set(number, model, asked, sources, seed) for number in range(count)]
    texts = tuple(f"{port.name} {_shown(port, sets)} {sources[port].text}" for port in model.inputs)
    return RequestInputs(sets, texts)


def _source(port: Port, asked: InputArgument) -> _Source:
    if asked.value == "random":
        return _Source("random", ())
    if asked.value not in GENERATED and os.path.isdir(asked.value):
        arrays = _from_folder(port, Path(asked.value))
        return _Source(f"{_counted(arrays, 'file')} of {asked.value}", arrays)
    text = asked.value if asked.value in GENERATED or asked.value.endswith((".npy", ".json")) else "as given"
    return _Source(text, (input_array(port, asked, np.random.default_rng()),))


def _from_folder(port: Port, folder: Path) -> Sequence[Array]:
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise UsageError(f"input {quote(port.name)}: folder {folder} holds no .npy files")
    if len(files) > MAX_SETS:
        raise UsageError(f"input {quote(port.name)}: folder {folder} holds {len(files)} files, at most {MAX_SETS} do")
    _check_size(sum(file.stat().st_size for file in files))
    random = np.random.default_rng()
    return [input_array(port, InputArgument(str(file)), random) for file in files]


def _first_made(asked: dict[Port, InputArgument], sources: dict[Port, _Source], seed: int) -> int:
    """The bytes of what is random in one set."""
    random = np.random.default_rng(seed)
    return sum(_size(input_array(port, asked[port], random)) for port in asked if not sources[port].arrays)


def _count(sources: dict[Port, _Source], made: int) -> int:
    """How many sets there are. `made`: the bytes that are random in each."""
    several = {len(source.arrays): source for source in sources.values() if len(source.arrays) > 1}
    if len(several) > 1:
        lengths = " and ".join(source.text for source in several.values())
        raise UsageError(f"{lengths} do not go together: there must be as many of each")
    fixed = sum(_size(array) for source in sources.values() for array in source.arrays)
    if several:
        (count,) = several
    elif made:
        count = max(1, min(RANDOM_SETS, RANDOM_BYTES // made))
    else:
        count = 1
    _check_size(fixed + count * made)
    return count


def _set(
    number: int, model: Model, asked: dict[Port, InputArgument], sources: dict[Port, _Source], seed: int
) -> dict[str, Array]:
    random = np.random.default_rng([seed, number])

    def array(port: Port) -> Array:
        arrays = sources[port].arrays
        return arrays[number % len(arrays)] if arrays else input_array(port, asked[port], random)

    return {port.name: array(port) for port in model.inputs}


def _check_size(nbytes: int) -> None:
    if nbytes > MAX_BYTES:
        raise UsageError(f"the inputs take {nbytes >> 20} MiB together, at most {MAX_BYTES >> 20} MiB are held")


def _size(array: Array) -> int:
    return len(to_wire(array)[2])


def _shown(port: Port, sets: Sequence[Inputs]) -> str:
    shapes = {sets[number][port.name].shape for number in range(len(sets))}
    first = next(iter(shapes))
    if any(len(shape) != len(first) for shape in shapes):
        return f"{port.datatype}[various]"
    spans = [(min(sizes), max(sizes)) for sizes in zip(*shapes, strict=True)]
    return f"{port.datatype}[{','.join(str(a) if a == b else f'{a}..{b}' for a, b in spans)}]"


def _counted(arrays: Sequence[Array], what: str) -> str:
    return f"{len(arrays)} {what}{'s' * (len(arrays) != 1)}"
