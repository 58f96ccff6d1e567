"""Output arrays as .npy files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_STEM = 100
"""The number of characters of a file name without its suffix."""


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A different file name for each output, valid on every file system."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip(".-")[:MAX_STEM] or "output"
        file, number = f"{stem}.npy", 1
        while file.lower() in taken:
            number += 1
            file = f"{stem}_{number}.npy"
        taken.add(file.lower())
        files[name] = file
    return files


def save(outputs: Mapping[str, Array], folder: Path) -> dict[str, Path]:
    """Write each output to a .npy file, and return the paths. Raises OSError.

    The files can be read without pickle: BF16 is written as its bits, BYTES as strings padded with zeros.
    """
    paths = {name: folder / file for name, file in file_names(outputs).items()}
    for name, path in paths.items():
        array = outputs[name]
        np.save(path, array.astype(np.bytes_) if array.dtype.hasobject else array, allow_pickle=False)
    return paths
