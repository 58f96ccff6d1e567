"""Class labels, in a text file beside a model: one per line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.labels import labels_in


def label_files(model: Path) -> tuple[Path, Path]:
    """Where labels may be, whether or not they are there."""
    return model.with_name(f"{model.stem}.labels.txt"), model.with_name("labels.txt")


def configured_label_files(compilation: Compilation) -> list[Path]:
    """The files of labels that options name, for a model or for outputs of it."""
    named = (compilation.labels, *(each.labels for each in compilation.outputs.values()))
    return [Path(each) for each in named if each]


def labels_beside(model: Path) -> tuple[str, ...]:
    """The labels of a model, or an empty tuple if it has no file of labels.

    For `resnet.onnx` the file is `resnet.labels.txt`, or else `labels.txt`. A file is ignored if it is larger than
    MAX_LABEL_FILE_BYTES, is not UTF-8 or cannot be read.
    """
    for file in label_files(model):
        with suppress(OSError, ValueError):
            if file.is_file():  # a pipe would be waited for
                return labels_in(file)
    return ()
