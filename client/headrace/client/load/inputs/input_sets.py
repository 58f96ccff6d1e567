"""The sets of inputs of a run, generated or read before it begins and sent in turn.

Inputs that are not specified are random, in a few different sets, so that the run does not measure only a cache. A
folder of .npy files gives one set per file, a JSON Lines file one per line. Combined, they are matched one by one and
must have the same length; random inputs beside them differ from set to set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headrace.client.load.callers.caller import Inputs
from headrace.client.load.formatting import counted
from headrace.client.load.inputs.json_lines import read_json_lines
from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.input_arguments import GENERATED, InputArgument, parse_input_arguments
from headrace.client.terminal.input_arrays import Array, input_array
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote
from headrace.wire.tensors import to_wire

MAX_SETS = 1024
MAX_TOTAL_BYTES = 256 << 20
"""Of all sets together."""
RANDOM_SETS, MAX_RANDOM_BYTES = 8, 32 << 20
"""How many sets are generated if no file determines their number, and the bytes they may take together."""


class RequestInputs(NamedTuple):
    """The sets, and a description of each input such as `x FP32[1,16] random`."""

    sets: Sequence[Inputs]
    texts: tuple[str, ...]


class _Source(NamedTuple):
    """Where an input comes from. `arrays`: one for all sets, or one per set; none if it is random."""

    text: str
    arrays: Sequence[Array]


def request_inputs(
    model: Model, inputs: Sequence[str], shapes: Sequence[str], jsonl: Path | None, seed: int
) -> RequestInputs:
    """The sets of inputs for a model; the same seed gives the same sets.

    Raises UsageError, also for more than 1,024 sets or 256 MiB in all.
    """
    named = parse_input_arguments(model, inputs, ())
    asked = parse_input_arguments(model, inputs, shapes, default="random")
    sources: dict[Port, _Source] = {}
    if jsonl is not None:
        columns = read_json_lines(model, jsonl, MAX_SETS, MAX_TOTAL_BYTES)
        for port, arrays in columns.items():
            if port in named or asked.pop(port).shape is not None:
                raise UsageError(f"input {quote(port.name)} is in {jsonl}, so it cannot be specified on its own too")
            sources[port] = _Source(f"{counted(len(arrays), 'line')} of {jsonl}", arrays)
    sources |= {port: _source(port, each) for port, each in asked.items()}
    _check_size(sum(_size(array) for source in sources.values() for array in source.arrays))

    random_bytes = _random_bytes(asked, sources, seed)
    count = _set_count(sources, random_bytes)
    sets = [_input_set(number, model, asked, sources, seed) for number in range(count)]
    texts = tuple(f"{port.name} {_tensor_text(port, sets)} {sources[port].text}" for port in model.inputs)
    return RequestInputs(sets, texts)


def _source(port: Port, asked: InputArgument) -> _Source:
    if asked.value == "random":
        return _Source("random", ())
    if asked.value not in GENERATED and os.path.isdir(asked.value):
        arrays = _from_folder(port, Path(asked.value))
        return _Source(f"{counted(len(arrays), 'file')} of {asked.value}", arrays)
    text = asked.value if asked.value in GENERATED or asked.value.endswith((".npy", ".json")) else "as given"
    return _Source(text, (input_array(port, asked, np.random.default_rng()),))


def _from_folder(port: Port, folder: Path) -> Sequence[Array]:
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise UsageError(f"input {quote(port.name)}: folder {folder} contains no .npy files")
    if len(files) > MAX_SETS:
        raise UsageError(
            f"input {quote(port.name)}: folder {folder} contains {len(files)} files, more than the {MAX_SETS} allowed"
        )
    _check_size(sum(file.stat().st_size for file in files))
    random = np.random.default_rng()
    return [input_array(port, InputArgument(str(file)), random) for file in files]


def _random_bytes(asked: dict[Port, InputArgument], sources: dict[Port, _Source], seed: int) -> int:
    """The size of the random inputs of one set."""
    random = np.random.default_rng(seed)
    return sum(_size(input_array(port, asked[port], random)) for port in asked if not sources[port].arrays)


def _set_count(sources: dict[Port, _Source], random_bytes: int) -> int:
    """The number of sets. `random_bytes`: the size of the random inputs of one set."""
    several = {len(source.arrays): source for source in sources.values() if len(source.arrays) > 1}
    if len(several) > 1:
        lengths = " and ".join(source.text for source in several.values())
        raise UsageError(f"{lengths} do not match: their numbers must be equal")
    fixed = sum(_size(array) for source in sources.values() for array in source.arrays)
    if several:
        (count,) = several
    elif random_bytes:
        count = max(1, min(RANDOM_SETS, MAX_RANDOM_BYTES // random_bytes))
    else:
        count = 1
    _check_size(fixed + count * random_bytes)
    return count


def _input_set(
    number: int, model: Model, asked: dict[Port, InputArgument], sources: dict[Port, _Source], seed: int
) -> dict[str, Array]:
    random = np.random.default_rng([seed, number])

    def array(port: Port) -> Array:
        arrays = sources[port].arrays
        return arrays[number % len(arrays)] if arrays else input_array(port, asked[port], random)

    return {port.name: array(port) for port in model.inputs}


def _check_size(nbytes: int) -> None:
    if nbytes > MAX_TOTAL_BYTES:
        raise UsageError(
            f"the inputs take {nbytes >> 20} MiB in all, more than the {MAX_TOTAL_BYTES >> 20} MiB allowed"
        )


def _size(array: Array) -> int:
    return len(to_wire(array)[2])


def _tensor_text(port: Port, sets: Sequence[Inputs]) -> str:
    shapes = {sets[number][port.name].shape for number in range(len(sets))}
    first = next(iter(shapes))
    if any(len(shape) != len(first) for shape in shapes):
        return f"{port.datatype}[various]"
    spans = [(min(sizes), max(sizes)) for sizes in zip(*shapes, strict=True)]
    return f"{port.datatype}[{','.join(str(a) if a == b else f'{a}..{b}' for a, b in spans)}]"
