"""What the command prints and saves: tables, JSON, files; and that only the command pays for its looks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from rich.table import Table

from headrace.client.protocol.models import Model, Port
from headrace.client.protocol.status import ModelStatus, ServerStatus
from headrace.client.terminal.json_output import infer_document, models_document, status_document
from headrace.client.terminal.outputs import MAX_NAME, file_names, first_values, save, summary
from headrace.client.terminal.tables import (
    models_table,
    outputs_table,
    print_table,
    size_text,
    status_lines,
    status_table,
)

MODEL = Model(
    "segmenter",
    "2",
    (Port("image", "UINT8", (None, 3, (1, 640)), ("image", "i")), Port("words", "BYTES", None, ("words",))),
    (Port("mask", "FP32", ((2, None), 4), ("mask",)),),
    has_variables=True,
    slots=4,
)
STATUS = ServerStatus("0.1.0", False, 3, 12, 1536, 0, (ModelStatus("segmenter", "2", 1, 2, 1, 7, 9000, 3, 1125, 1, 5),))


def text_of(table: Table, width: int | None = None) -> str:
    file = io.StringIO()
    print_table(table, file, width)
    return file.getvalue()


def words(table: Table) -> list[list[str]]:
    return [line.split() for line in text_of(table).splitlines()]


def test_a_row_for_each_port() -> None:
    assert text_of(models_table([MODEL])) == (
        "MODEL      VERSION  SLOTS  PORT  NAME   TENSOR\n"
        "segmenter  2            4  in    image  UINT8[?,3,1..640]\n"
        "                           in    words  BYTES[any rank]\n"
        "                           out   mask   FP32[2..,4]\n"
    )


def test_status() -> None:
    assert status_lines(STATUS, "localhost:8001") == [
        "headrace 0.1.0 at localhost:8001, serving",
        "streams 3 · tickets in flight 12 · queued inputs 0 B · kept outputs 1.5 KiB",
    ]
    slots = ["FREE", "RUNNING", "STOPPING"]
    header, row = words(status_table(STATUS))
    assert header == ["MODEL", "VERSION", *slots, "RESTORING", "QUEUED", "DONE", "FAILED"]
    assert row == ["segmenter", "2", "1", "2", "1", "1", "7", "9000", "3"]
    usual = replace(STATUS, models=(replace(STATUS.models[0], slots_restoring=0),))
    header, row = words(status_table(usual))
    assert header == ["MODEL", "VERSION", *slots, "QUEUED", "DONE", "FAILED"]
    assert row == ["segmenter", "2", "1", "2", "1", "7", "9000", "3"]


def test_outputs() -> None:
    outputs: dict[str, npt.NDArray[Any]] = {
        "numbers": np.array([[1, 2.5], [-3, 1e9]], np.float32),
        "half": np.array([60000, 60000], np.float16),
        "bits": np.array([1.5, 2.5], ml_dtypes.bfloat16),
        "flags": np.array([True, False]),
        "ids": np.arange(2**40, 2**40 + 9),
        "none": np.zeros((0, 3), np.float32),
        "scalar": np.array(7, np.uint8),
        "words": np.array([b"one", "zwölf".encode(), b"\xff"], np.object_),
    }
    rows = {row[0]: row[1:] for row in words(outputs_table(outputs))}
    assert rows["numbers"] == ["FP32", "[2,2]", "-3", "2.5e+08", "1e+09", "1", "2.5", "-3", "1e+09"]
    assert rows["half"] == ["FP16", "[2]", "6e+04", "6e+04", "6e+04", "6e+04", "6e+04"]
    assert rows["bits"] == ["BF16", "[2]", "1.5", "2", "2.5", "1.5", "2.5"]
    assert rows["flags"] == ["BOOL", "[2]", "0", "0.5", "1", "true", "false"]
    assert rows["ids"][:3] == ["INT64", "[9]", "1099511627776"]
    assert rows["ids"][-2:] == ["1099511627779", "..."]
    assert rows["none"] == ["FP32", "[0,3]", "-", "-", "-"]
    assert rows["scalar"] == ["UINT8", "[]", "7", "7", "7", "7"]
    assert rows["words"] == ["BYTES", "[3]", "-", "-", "-", "'one'", "'zwölf'", r"'\\xff'"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_is_never_wider_than_it_is(width: int) -> None:
    long = {f"{'output' * 10}{i}": np.full((1, 3, 224, 224), 1 / 3, np.float32) for i in range(3)}
    text = text_of(outputs_table(long), width)
    assert max(map(len, text.splitlines())) <= width
    assert "".join(text.split()).count("0.3333") == 3 * 7


def test_without_a_terminal_every_row_is_a_line() -> None:
    outputs = {"o" * 300: np.zeros(3, np.float32)}
    assert len(text_of(outputs_table(outputs)).splitlines()) == 2


def test_names_are_shown_as_they_are_but_do_nothing() -> None:
    names = ["[bold]x[/bold]", ":smile:", "\x1b[31mred", "two\nlines"]
    text = text_of(outputs_table({name: np.zeros(1) for name in names}))
    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [
        "[bold]x[/bold]",
        ":smile:",
        r"\x1b[31mred",
        r"two\nlines",
    ]


def test_first_values_are_few() -> None:
    assert first_values(np.arange(4)) == "0 1 2 3"
    assert first_values(np.arange(5)) == "0 1 2 3 ..."
    assert first_values(np.array(["x" * 100], np.object_)) == f"'{'x' * 21}...'"


def test_a_mean_that_would_overflow() -> None:
    found = summary(np.full(100_000, 60_000, np.float16))
    assert found
    assert found.mean == pytest.approx(60_000, rel=1e-3)
    assert summary(np.zeros(0, np.float32)) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (300 << 20, "300 MiB"), (3 << 40, "3072 GiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_json_of_models() -> None:
    (document,) = models_document([MODEL])["models"]
    assert document["inputs"] == [
        {
            "name": "image",
            "datatype": "UINT8",
            "shape": [{"min": 0, "max": None}, 3, {"min": 1, "max": 640}],
            "names": ["image", "i"],
        },
        {"name": "words", "datatype": "BYTES", "shape": None, "names": ["words"]},
    ]
    assert document["outputs"][0]["shape"] == [{"min": 2, "max": None}, 4]
    assert {key: document[key] for key in document if key not in ("inputs", "outputs")} == {
        "name": "segmenter",
        "version": "2",
        "slots": 4,
        "has_variables": True,
    }


def test_json_of_status() -> None:
    assert status_document(STATUS) == {
        "version": "0.1.0",
        "draining": False,
        "streams": 3,
        "tickets_in_flight": 12,
        "kept_bytes": 1536,
        "queued_bytes": 0,
        "models": [
            {
                "name": "segmenter",
                "version": "2",
                "slots_free": 1,
                "slots_running": 2,
                "slots_stopping": 1,
                "tickets_queued": 7,
                "inferences": 9000,
                "failures": 3,
                "executions": 1125,
                "slots_restoring": 1,
                "restorations": 5,
            }
        ],
    }


@pytest.mark.parametrize(
    ("array", "data"),
    [
        (np.array([[1, 2]], np.float32), [[1.0, 2.0]]),
        (np.array([1.5], ml_dtypes.bfloat16), [1.5]),
        (np.array([0.5], np.float16), [0.5]),
        (np.array([np.nan, np.inf, -np.inf, 1], np.float32), ["NaN", "Infinity", "-Infinity", 1.0]),
        (np.array([True]), [True]),
        (np.array([2**64 - 1], np.uint64), [2**64 - 1]),
        (np.array([["é".encode(), b"\xff"]], np.object_), [["é", "\\xff"]]),
        (np.array(3, np.int32), 3),
        (np.zeros((2, 0), np.float32), [[], []]),
    ],
)
def test_json_of_outputs(array: npt.NDArray[Any], data: object) -> None:
    document = json.loads(json.dumps(infer_document(MODEL, {"y": array}, {}), allow_nan=False))
    (output,) = document["outputs"]
    assert (output["name"], output["shape"], output["data"]) == ("y", list(array.shape), data)
    assert set(output) == {"name", "datatype", "shape", "min", "mean", "max", "data"}


def test_json_with_files_holds_no_data() -> None:
    document = infer_document(MODEL, {"y": np.zeros(2)}, {"y": Path("out/y.npy")})
    assert document["outputs"][0]["file"] == "out/y.npy"
    assert "data" not in document["outputs"][0]


def test_names_become_files_of_their_own() -> None:
    names = ["plain", "gpu_0/softmax_1", "gpu_0:softmax_1", "../../etc/passwd", "..", "Plain", "é", "x" * 300]
    files = file_names(names)
    assert files["plain"] == "plain.npy"
    assert files["gpu_0/softmax_1"] == "gpu_0_softmax_1.npy"
    assert files["gpu_0:softmax_1"] == "gpu_0_softmax_1_2.npy"
    assert files["../../etc/passwd"] == "_.._etc_passwd.npy"
    assert files["Plain"] == "Plain_2.npy"
    assert len(files["x" * 300]) == MAX_NAME + 4
    assert len({file.lower() for file in files.values()}) == len(names)
    assert not any("/" in file or file.startswith(".") for file in files.values())


def test_files_are_read_without_pickle(tmp_path: Path) -> None:
    outputs = {"a/b": np.arange(3.0), "words": np.array([b"x", b"yz"], np.object_)}
    paths = save(outputs, tmp_path)
    assert np.array_equal(np.load(paths["a/b"]), outputs["a/b"])
    assert np.load(paths["words"]).tolist() == [b"x", b"yz"]


def test_the_library_alone_loads_nothing_for_terminals() -> None:
    script = "import sys, headrace.client; sys.exit(bool({'cyclopts', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
