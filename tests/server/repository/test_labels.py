"""Labels of classes in a file beside a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.server.engine.labels import MAX_LABEL_FILE_BYTES
from headrace.server.repository.labels import labels_beside


def test_without_a_file_there_are_no_labels(tmp_path: Path) -> None:
    assert labels_beside(tmp_path / "m.onnx") == ()


def test_each_line_is_a_label(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog fox\n\nsnöwy owl\n", "utf-8")
    assert labels_beside(tmp_path / "m.onnx") == ("cat", "dog fox", "", "snöwy owl")


def test_the_labels_of_the_model_itself_come_first(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("any\n")
    (tmp_path / "m.labels.txt").write_text("mine\n")
    assert labels_beside(tmp_path / "m.onnx") == ("mine",)
    assert labels_beside(tmp_path / "other.onnx") == ("any",)


@pytest.mark.parametrize("content", [b"\xff\xfe", bytes(MAX_LABEL_FILE_BYTES + 1)])
def test_a_file_that_cannot_be_read_as_labels_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert labels_beside(tmp_path / "m.onnx") == ()


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """Nobody writes to this pipe, so opening it would never end."""
    os.mkfifo(tmp_path / "labels.txt")
    assert labels_beside(tmp_path / "model.xml") == ()
