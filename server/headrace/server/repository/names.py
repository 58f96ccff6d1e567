"""The names of models and of versions, as folders and files have them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_VERSION = re.compile(r"[0-9]{1,19}")
MAX_VERSION = (1 << 63) - 1
"""The largest number that the configurations of other servers can state."""
_GENERIC = {"model", "saved_model", "inference", "openvino_model"}
"""Names of files that say nothing about the model: it is named after its folder."""
NAME_RULE = "use up to 128 letters, digits, and the characters _ . + -"


def is_model_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def version_number(text: str) -> int | None:
    """The number of a version by the name of its folder; None if that is no version.

    Leading zeros do not count: `00000123` is version 123. 0 is no version, and neither are digits outside of ASCII.
    """
    if not _VERSION.fullmatch(text):
        return None
    number = int(text)
    return number if 0 < number <= MAX_VERSION else None


def name_of(path: Path) -> str:
    """The name of a model that was not given one: that of its file without the extension, or of its folder.

    A file with a name such as `model.onnx`, and a folder with the name of a version, are named after the folder around.
    """
    path = Path(os.path.abspath(path))  # a relative path may end in `.`; links keep their names
    if not path.is_dir() and path.stem not in _GENERIC:
        return path.stem
    folders = [path, *path.parents] if path.is_dir() else path.parents
    named = (folder.name for folder in folders if folder.name and version_number(folder.name) is None)
    return next(named, path.stem)
