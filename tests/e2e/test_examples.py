"""Each example as its docstring says: a server, the script, and what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests import models
from tests.e2e.recording import SPEECH
from tests.e2e.serving import Serve

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"
RESNET = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"


def run(example: str, *arguments: str, code: int = 0) -> str:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code, ended.stderr
    return ended.stdout if code == 0 else ended.stderr


def silero() -> Path:
    package = find_spec("silero_vad")  # not imported: it would want PyTorch
    assert package
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "data" / "silero_vad_openvino_16k.onnx"


@pytest.fixture
def graph_address(serve: Serve, tmp_path: Path) -> str:
    run("graph.py", "--models", str(tmp_path / "models"))
    return serve(str(tmp_path / "models" / "scale.xml"), str(tmp_path / "models" / "join.xml")).address


def test_the_crops_example_runs(serve: Serve, tmp_path: Path) -> None:
    run("crops.py", "--models", str(tmp_path))
    served = serve(*(str(tmp_path / f"{name}.xml") for name in ("detect", "crop", "classify")))
    printed = run("crops.py", served.address)
    assert printed.count("stripes\n") == 8
    assert "wrong" not in printed
    assert "1,228,800 bytes of picture were sent once, for 9 runs that used them" in printed


def test_the_graph_example_runs(graph_address: str) -> None:
    printed = run("graph.py", graph_address)
    assert "the sum is that of NumPy: True" in printed
    assert "640,000 bytes were sent; 640,000 of sum and 128 of product came back" in printed
    assert "2,560,000 bytes, never left the server; it kept 1,280,000 bytes at the end" in printed


def test_the_script_example_runs(graph_address: str) -> None:
    assert run("script.py", graph_address).splitlines() == [
        "join 1: x FP32[?,16], y FP32[?,16] -> sum FP32[?,16], product FP32[?,16]",
        "scale 1: x FP32[?,16] -> y FP32[?,16]",
        "2 * 1 + 1 = 3",
        "2i + 1 = 1 3 5 7 9 11 13 15",
        "rows 5 to 8 of the product: (3, 16)",
        "as expected: input 'x' has shape [1, 3]; the model takes FP32[?,16]",
    ]


def test_the_pipelined_example_runs(serve: Serve, tmp_path: Path) -> None:
    address = serve(f"resnet50={RESNET}").address
    noise = run("pipelined.py", address).splitlines()
    assert [line.split(":")[0] for line in noise[:-1]] == [f"noise {i}" for i in range(32)]
    assert re.fullmatch(r"32 images in [\d.]+ s: \d+/s with up to 16 in flight", noise[-1])

    files = [str(tmp_path / f"{name}.npy") for name in ("wide", "tall")]
    for file, shape in zip(files, ((50, 400, 3), (300, 20, 3)), strict=True):
        np.save(file, np.full(shape, 128, np.uint8))
    wide, tall, last = run("pipelined.py", address, *files).splitlines()
    assert re.fullmatch(r".*/wide\.npy: class \d+ \([\d.]+%\)", wide)
    assert wide.split(": ")[1] == tall.split(": ")[1]
    assert last.startswith("2 images")


def test_the_recurrent_example_runs(serve: Serve) -> None:
    *seconds, last = run("recurrent.py", serve(f"speech={silero()}").address).splitlines()
    assert last == "282 chunks, whose states of 1 KiB each stayed on the server"
    assert len(seconds) == 9
    means = [float(line.split()[-1]) for line in seconds]
    for second, mean in enumerate(means):
        spoken = sum(max(0, min(second + 1, stop) - max(second, start)) for start, stop in SPEECH)
        assert mean == pytest.approx(spoken, abs=0.15)


@pytest.mark.parametrize("example", ["graph.py", "recurrent.py", "pipelined.py", "script.py"])
def test_a_server_without_the_model_of_an_example_is_one_line(serve: Serve, tmp_path: Path, example: str) -> None:
    printed = run(example, serve(f"other={models.scalar(tmp_path)}").address, code=1)
    assert printed.startswith("NOT_FOUND: there is no model")
    assert printed.count("\n") == 1
