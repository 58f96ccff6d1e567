"""The labels of classes, in a file beside a model: one in each line."""

from __future__ import annotations

from pathlib import Path

MAX_BYTES = 4 << 20


def labels_beside(model: Path) -> tuple[str, ...]:
    """The labels of a model; none where there is no file.

    For `resnet.onnx` they are in `resnet.labels.txt`, or else in `labels.txt`. What is longer than MAX_BYTES, or not
    UTF-8, or cannot be read, is no such file.
    """
    for file in (model.with_name(f"{model.stem}.labels.txt"), model.with_name("labels.txt")):
        try:
            if file.stat().st_size <= MAX_BYTES:
                return tuple(file.read_text("utf-8").splitlines())
        except (OSError, UnicodeDecodeError):
            continue
    return ()
