"""The files that a model consists of, and whether they have changed."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG

_COMPANIONS = {".xml": (".bin",), ".pdmodel": (".pdiparams",), ".onnx": ()}
"""The files with weights, which have the name of the model's file and another extension."""
_SAVED_MODEL_FOLDERS = ("variables", "assets", "assets.extra")
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)
"""In ONNX: the entry of a tensor that names the file of its data. The group is the length of the name that follows, a
varint."""
_CHUNK_BYTES = 1 << 20
"""What is searched at once: the interpreter runs nothing else meanwhile."""
_MAX_ENTRY_BYTES = 13 + (1 << 14)
"""Of an entry of a location: a longer name is none of a file."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and time of the last change of each file. It changes when a file is replaced or written."""


def model_files(path: Path) -> list[Path]:
    """The files of a model that exist, the one that names it first; of a SavedModel, all that belong to it.

    Raises OSError if the model cannot be read.
    """
    if folders := model_folders(path):
        return [file for each in folders for file in sorted(each.iterdir()) if _is_file(file)]
    status = path.stat()
    if not S_ISREG(status.st_mode):  # opening a pipe would wait for whoever writes to it
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    others = [path.with_suffix(extension) for extension in _COMPANIONS.get(path.suffix.lower(), ())]
    if path.suffix.lower() == ".onnx":
        others += [path.parent / name for name in _locations(path, (status.st_ino, status.st_size, status.st_mtime_ns))]
    return [path, *filter(_is_file, others)]


def model_folders(path: Path) -> list[Path]:
    """The folders of a SavedModel, those that the format has and no others; none for other models."""
    return [path, *filter(Path.is_dir, (path / name for name in _SAVED_MODEL_FOLDERS))] if path.is_dir() else []


def stamp(files: Iterable[Path]) -> Stamp:
    """What tells whether files have changed. Raises OSError for a file that is missing."""
    found = [(file, file.stat()) for file in files]
    return tuple((str(file), status.st_ino, status.st_size, status.st_mtime_ns) for file, status in found)


def digest(files: Sequence[Path]) -> str:
    """A hash of the contents and the extensions of files. Reads them whole, about a GiB in a second. Raises OSError."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            total.update(f"{file.suffix}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()


@lru_cache(1 << 16)
def _locations(path: Path, _stamp: tuple[int, int, int]) -> list[str]:
    """The names of files with the data of an ONNX model's tensors, sorted.

    They are remembered: the whole file is read for them, about a GiB in a second. It is not mapped: whoever truncates
    a mapped file ends the process.
    """
    names: set[bytes] = set()
    content = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            content = content[-_MAX_ENTRY_BYTES:] + chunk
            for match in _LOCATION.finditer(content):
                end = match.end() + _length(match[1])
                if end <= len(content):  # or else it is whole in the next content
                    names.add(content[match.end() : end])
    return sorted(filter(None, map(_name, names)))


def _length(varint: bytes) -> int:
    return varint[0] if len(varint) == 1 else (varint[0] & 0x7F) | varint[1] << 7


def _name(data: bytes) -> str:
    """The name of a file in the model's folder; empty if it is something else."""
    try:
        name = data.decode()
    except UnicodeDecodeError:
        return ""
    path = Path(name)
    return "" if "\0" in name or path.is_absolute() or ".." in path.parts else name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
