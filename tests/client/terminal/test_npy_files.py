"""Outputs saved as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headrace.client.terminal.npy_files import MAX_STEM, file_names, save


def test_each_output_gets_a_file_name_of_its_own() -> None:
    names = ["plain", "gpu_0/softmax_1", "gpu_0:softmax_1", "../../etc/passwd", "..", "Plain", "é", "x" * 300]
    files = file_names(names)
    assert files["plain"] == "plain.npy"
    assert files["gpu_0/softmax_1"] == "gpu_0_softmax_1.npy"
    assert files["gpu_0:softmax_1"] == "gpu_0_softmax_1_2.npy"
    assert files["../../etc/passwd"] == "_.._etc_passwd.npy"
    assert files["Plain"] == "Plain_2.npy"
    assert len(files["x" * 300]) == MAX_STEM + 4
    assert len({file.lower() for file in files.values()}) == len(names)
    assert not any("/" in file or file.startswith(".") for file in files.values())


def test_saved_files_are_read_without_pickle(tmp_path: Path) -> None:
    outputs = {"a/b": np.arange(3.0), "words": np.array([b"x", b"yz"], np.object_)}
    paths = save(outputs, tmp_path)
    assert np.array_equal(np.load(paths["a/b"]), outputs["a/b"])
    assert np.load(paths["words"]).tolist() == [b"x", b"yz"]
