"""Outputs as the command shows and saves them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FIRST = 4
"""Values that a table shows."""
MAX_NAME = 100
"""Characters of a file's name, made of an output's."""


@dataclass(frozen=True, slots=True)
class Summary:
    least: float
    mean: float
    most: float


def summary(array: Array) -> Summary | None:
    """None for what has no numbers: BYTES, and arrays without elements."""
    if array.dtype.hasobject or not array.size:
        return None
    numbers = array
    if array.dtype.kind == "b":
        numbers = array.astype(np.uint8)
    elif array.dtype.itemsize == 2 and array.dtype.kind not in "iu":
        numbers = array.astype(np.float32)  # bfloat16 is no number of NumPy's own
    with np.errstate(all="ignore"):
        mean = float(np.mean(numbers, dtype=np.float64))
    return Summary(numbers.min().item(), mean, numbers.max().item())


def first_values(array: Array, most: int = FIRST) -> str:
    """`0.5 1.25 ...`, in the order of memory."""
    shown = [value_text(value) for value in array.flat[:most].tolist()]
    return " ".join(shown + ["..."] * (array.size > most))


def value_text(value: object) -> str:
    """A number with four digits, or a string in quotes."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes | str):
        text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
        return repr(text if len(text) <= 24 else text[:21] + "...")
    return format(float(value), ".4g")  # type: ignore[arg-type]  # ml_dtypes.bfloat16 has __float__


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file for each output, with a name that every file system takes; no two are the same."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip(".-")[:MAX_NAME] or "output"
        file, number = f"{stem}.npy", 1
        while file.lower() in taken:
            number += 1
            file = f"{stem}_{number}.npy"
        taken.add(file.lower())
        files[name] = file
    return files


def save(outputs: Mapping[str, Array], folder: Path) -> dict[str, Path]:
    """Write each output as a .npy file that needs no pickle: BF16 as its bits, BYTES as strings padded with zeros.

    Raises OSError.
    """
    paths = {name: folder / file for name, file in file_names(outputs).items()}
    for name, path in paths.items():
        array = outputs[name]
        np.save(path, array.astype(np.bytes_) if array.dtype.hasobject else array, allow_pickle=False)
    return paths
