"""The `headrace` command against a real server: what it prints, how it ends, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.e2e.serving import F32, Served

COMMAND = [sys.executable, "-m", "headrace.client"]
ESCAPE = "\x1b"

Headrace = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    made = (
        models.add_multiply(folder),
        models.bounded_add_multiply(folder),
        models.wide(folder),
        models.slow(folder),
        models.identity(folder, "bf16"),
        models.identity(folder, "boolean"),
    )
    with Served([*map(str, made), F32], folder / "server.log") as served:
        yield served


@pytest.fixture
def headrace(tmp_path: Path) -> Headrace:
    """`headrace("models", target)`: how the command ended, in a folder of its own, without a terminal."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path
        )
        assert "Traceback" not in ended.stdout + ended.stderr
        assert ESCAPE not in ended.stdout + ended.stderr
        assert ended.returncode == code, ended.stderr
        if code:
            assert ended.stdout == ""
            assert ended.stderr.startswith("headrace: ")
            assert ended.stderr.count("\n") == 1
        else:
            assert ended.stderr == ""
        return ended

    return run


def test_models_are_listed(served: Served, headrace: Headrace) -> None:
    lines = [line.split() for line in headrace("models", served.address).stdout.splitlines()]
    assert lines[0] == ["MODEL", "VERSION", "SLOTS", "RUNS", "BATCH", "MEMORY", "PORT", "NAME", "TENSOR"]
    first = lines.index(["add_multiply", "1", *lines[1][2:7], "in", "x", "FP32[?,16]"])
    assert lines[first + 1 : first + 4] == [
        ["in", "y", "FP32[?,16]"],
        ["out", "sum", "FP32[?,16]"],
        ["out", "product", "FP32[?,16]"],
    ]
    found = json.loads(headrace("models", served.address, "--json").stdout)["models"]
    assert [model["name"] for model in found] == sorted(
        ["add_multiply", "bounded_add_multiply", "wide", "slow", "identity_bf16", "identity_boolean"]
    )
    assert found[1]["inputs"][0]["shape"] == [{"min": 2, "max": 8}, 16]
    assert all((model["weight"], model["priority"]) == (1, 0) for model in found)
    assert all(model["memory_bytes"] > 0 for model in found)


def test_status_is_shown(served: Served, headrace: Headrace) -> None:
    text = headrace("status", served.address).stdout
    assert f"at {served.address}, serving" in text
    assert "tickets in flight 0" in text
    status = json.loads(headrace("status", served.address, "--json").stdout)
    assert not status["draining"]
    assert status["kept_bytes"] == 0
    assert {model["name"] for model in status["models"]} >= {"add_multiply", "wide"}


def infer(headrace: Headrace, *arguments: str) -> dict[str, Any]:
    """The outputs by name."""
    document = json.loads(headrace("infer", *arguments, "--json").stdout)
    return {output["name"]: output for output in document["outputs"]}


def test_inputs_of_every_kind_are_taken(served: Served, headrace: Headrace, tmp_path: Path) -> None:
    x = np.arange(32, dtype=np.float32).reshape(2, 16)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "y.json").write_text(json.dumps(np.full((2, 16), 3).tolist()))
    outputs = infer(headrace, served.address, "add_multiply", "--input", "x=x.npy", "--input", "y=y.json")
    assert outputs["sum"]["data"] == (x + 3).tolist()
    assert outputs["product"]["data"] == (x * 3).tolist()
    assert (outputs["sum"]["datatype"], outputs["sum"]["shape"]) == ("FP32", [2, 16])
    assert (outputs["sum"]["min"], outputs["sum"]["mean"], outputs["sum"]["max"]) == (3, 18.5, 34)

    row = json.dumps([list(range(16))])
    outputs = infer(headrace, served.address, "add_multiply", "--input", f"x={row}", "--input", "y=zeros")
    assert outputs["sum"]["data"] == json.loads(row)

    outputs = infer(headrace, served.address, "identity_boolean", "--input", "x=[true, false]")
    assert outputs["same"]["data"] == [[True], [False]]


def test_only_the_outputs_that_were_asked_for_are_shown(served: Served, headrace: Headrace) -> None:
    arguments = (served.address, "wide", "--input", "x=random")
    assert list(infer(headrace, *arguments, "--output", "small")) == ["small"]
    assert list(infer(headrace, *arguments, "--output", "large", "--output", "small")) == ["large", "small"]
    (heading, row) = headrace("infer", *arguments, "--output=small").stdout.splitlines()
    assert heading.split()[:3] == ["OUTPUT", "DATATYPE", "SHAPE"]
    assert row.split()[:3] == ["small", "FP32", "[1,16]"]
    assert row.endswith(" ...")


def test_random_inputs_are_made(served: Served, headrace: Headrace) -> None:
    arguments = (served.address, "bounded_add_multiply", "--input", "x=random", "--input", "y=random", "--output=sum")
    first, second = (infer(headrace, *arguments, "--seed=1")["sum"] for _ in range(2))
    assert first["data"] == second["data"]
    assert first["data"] != infer(headrace, *arguments)["sum"]["data"]
    assert first["shape"] == [2, 16]
    sized = infer(headrace, *arguments, "--shape", "x:5,16", "--shape", "y:5,16")
    assert sized["sum"]["shape"] == [5, 16]


def test_saved_outputs_are_inputs_again(served: Served, headrace: Headrace, tmp_path: Path) -> None:
    saved = headrace("infer", served.address, "wide", "--input", "x=random", "--save", "out/of/it").stdout
    assert "saved large in out/of/it/large.npy" in saved
    large = np.load(tmp_path / "out/of/it/large.npy")
    assert (large.shape, large.dtype) == ((1024, 1024), np.float32)

    arguments = (served.address, "identity_bf16", "--save", "bits", "--input")
    headrace("infer", *arguments, "x=[1.5, -2]")
    again = (tmp_path / "bits/same.npy").rename(tmp_path / "x.npy")
    flat = np.load(again).reshape(-1)
    np.save(again, flat)
    outputs = infer(headrace, *arguments, "x=x.npy")
    assert "data" not in outputs["same"]
    assert np.array_equal(np.load(tmp_path / outputs["same"]["file"]).reshape(-1), flat)


def test_errors_of_the_server_are_sentences(served: Served, headrace: Headrace, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.float32))
    given = ("--input", "x=random", "--input", "y=random")
    target = served.address
    for arguments, said in (
        (("nowhere",), "NOT_FOUND: there is no model 'nowhere'"),
        (("add_multiply", *given, "--model-version=7"), "NOT_FOUND: "),
        (("add_multiply", *given, "--output=nope"), "NOT_FOUND: "),
        (("add_multiply", "--input", "x=x.npy", "--input=y=random"), "INVALID_ARGUMENT: input 'x' has shape [1, 3]"),
        (("add_multiply", *given, "--shape", "x:1100000,16"), "RESOURCE_EXHAUSTED: "),
        (("slow", "--input", "x=random", "--timeout=0.001"), "DEADLINE_EXCEEDED: "),
    ):
        assert said in headrace("infer", target, *arguments, code=1).stderr


def test_wrong_arguments_are_sentences(served: Served, headrace: Headrace, tmp_path: Path) -> None:
    np.save(tmp_path / "doubles.npy", np.zeros((1, 16)))
    (tmp_path / "broken.json").write_text("[1,")
    (tmp_path / "taken").touch()
    run = ("infer", served.address, "add_multiply")
    for arguments, said in (
        (("models",), "TARGET"),
        (("models", "localhost"), "HOST:PORT"),
        (("models", "http://localhost:8001"), "HOST:PORT"),
        (("nonsense",), "nonsense"),
        ((*run, "--nonsense"), "--nonsense"),
        ((*run, "--timeout=soon"), "--timeout"),
        ((*run, "--input", "x=random"), "also needs input y FP32[?,16]"),
        ((*run, "--input", "z=random"), "has no input 'z'; its inputs: x FP32[?,16], y FP32[?,16]"),
        ((*run, "--input", "x=missing.npy", "--input=y=zeros"), "missing.npy cannot be read"),
        ((*run, "--input", "x=broken.json", "--input=y=zeros"), "broken.json is not valid JSON"),
        ((*run, "--input", "x=doubles.npy", "--input=y=zeros"), "holds float64, but the model takes FP32 (float32)"),
        ((*run, "--input", "x=random", "--input=y=zeros", "--save=taken"), "taken cannot be created"),
    ):
        assert said in headrace(*arguments, code=2).stderr


def test_a_server_that_does_not_answer_is_a_sentence(headrace: Headrace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "UNAVAILABLE: no server answers" in headrace("models", f"127.0.0.1:{port}", code=1).stderr


@pytest.mark.parametrize("command", [(), ("models",), ("infer",), ("status",)])
def test_help_fits_a_screen(command: tuple[str, ...]) -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    shown = subprocess.run(
        [*COMMAND, *command, "--help"], capture_output=True, text=True, timeout=30, check=True, env=environment
    ).stdout
    assert len(shown.splitlines()) <= 40
    assert max(map(len, shown.splitlines())) <= 80
    assert ESCAPE not in shown
    if command:
        assert f"Example: headrace {command[0]} 127.0.0.1:8001" in shown


def test_an_interrupt_is_quiet() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        subprocess.Popen(
            [*COMMAND, "models", f"127.0.0.1:{silent.getsockname()[1]}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        connection, _ = silent.accept()  # it waits for an answer now
        with connection:
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_a_closed_pipe_is_quiet(served: Served) -> None:
    arguments = ["infer", served.address, "wide", "--input", "x=random", "--json"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read(10) == '{"model": '
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == ""
    assert process.returncode == 1
