"""The names of classes, in a text file: one per line."""

from __future__ import annotations

from pathlib import Path

MAX_LABEL_FILE_BYTES = 4 << 20


def labels_in(file: Path) -> tuple[str, ...]:
    """The labels in a file. Raises OSError, and ValueError with a clause if it is too large or not UTF-8."""
    if file.stat().st_size > MAX_LABEL_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_LABEL_FILE_BYTES} bytes")
    try:
        return tuple(file.read_text("utf-8").splitlines())
    except UnicodeDecodeError:
        raise ValueError("it is not valid UTF-8") from None
