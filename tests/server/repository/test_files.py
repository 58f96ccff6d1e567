"""The files of a model: which they are, what is in them, and whether they have changed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headrace.server.repository.files import digest, model_files, stamp
from tests import models


def external(folder: Path, location: str) -> Path:
    """ONNX whose weights are in a file of their own."""
    weights = numpy_helper.from_array(np.ones(1024, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1024])],
        [weights],
    )
    path = folder / "external.onnx"
    onnx.save_model(helper.make_model(graph), path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def test_an_ir_has_a_file_of_weights(tmp_path: Path) -> None:
    path = models.slow(tmp_path, steps=1)
    assert model_files(path) == [path, path.with_suffix(".bin")]


@pytest.mark.parametrize("location", ["w", "weights.data", "n" * 127, "n" * 128, "n" * 200])
def test_an_onnx_names_the_files_of_its_weights(tmp_path: Path, location: str) -> None:
    path = external(tmp_path, location)
    assert model_files(path) == [path, tmp_path / location]
    before = digest(model_files(path))
    content = bytearray((tmp_path / location).read_bytes())
    content[0] ^= 1
    (tmp_path / location).write_bytes(content)
    assert digest(model_files(path)) != before


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    path = models.onnx_add(tmp_path)
    before = digest(model_files(path))
    (tmp_path / "other.bin").write_text("other")
    assert model_files(path) == [path]
    assert digest(model_files(path)) == before


def test_the_contents_count_and_not_the_names(tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    before = digest(model_files(path))
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in model_files(path):
        file.rename(moved / f"other{file.suffix}")
    assert digest(model_files(moved / "other.xml")) == before


def test_files_that_are_replaced_or_written_have_changed(tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    files = model_files(path)
    before = stamp(files)
    assert stamp(files) == before
    new = tmp_path / "new"
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(before[0][3], before[0][3]))
    new.rename(path)
    replaced = stamp(files)
    assert replaced != before
    path.write_bytes(path.read_bytes() + b"\n")
    assert stamp(files) != replaced
    path.unlink()
    with pytest.raises(FileNotFoundError):
        stamp(files)


LOCATION = b"\x0a\x08location\x12"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        LOCATION,
        LOCATION + b"\x80",
        LOCATION + b"\x05ab",
        LOCATION + b"\x04/etc",
        LOCATION + b"\x02..",
        LOCATION + b"\x03a\0b",
        LOCATION + b"\x01\xff",
        LOCATION + b"\xff\x7f" + b"a" * 20_000,
    ],
)
def test_a_corrupt_onnx_names_no_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "corrupt.onnx"
    path.write_bytes(content)
    assert model_files(path) == [path]
    assert digest([path])


@pytest.mark.parametrize("before_end", range(0, 2 * 220, 20))
def test_a_name_is_found_wherever_it_lies_in_a_large_onnx(tmp_path: Path, before_end: int) -> None:
    path = tmp_path / "large.onnx"
    name = "w" * 150
    entry = LOCATION + b"\x96\x01" + name.encode()
    path.write_bytes(bytes((1 << 20) - before_end) + entry + bytes(1 << 21))
    (tmp_path / name).touch()
    (tmp_path / "w").touch()
    assert model_files(path) == [path, tmp_path / name]


def test_an_onnx_that_is_written_anew_while_it_is_searched_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.touch()
    os.truncate(path, 4 << 30)  # zeros that take no room on the disk
    code = (
        "import sys; from pathlib import Path; from headrace.server.repository.files import model_files;"
        "print('begins', flush=True); print(len(model_files(Path(sys.argv[1]))), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        assert select.select([process.stdout], [], [], 0.2) == ([], [], []), "it was searched too soon"
        os.truncate(path, 0)
        assert process.stdout.read() == "1\n"
    assert process.returncode == 0


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """Nobody writes to this pipe, so opening it would never end."""
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(OSError, match="it is not a regular file"):
        model_files(tmp_path / "model.onnx")
