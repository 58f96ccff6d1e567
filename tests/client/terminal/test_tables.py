"""The tables that the command prints."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from rich.table import Table

from headrace.client.protocol.models import ModelState
from headrace.client.protocol.status import Account
from headrace.client.terminal.printing import print_table
from headrace.client.terminal.tables import (
    models_table,
    outputs_table,
    state_lines,
    states_table,
    status_lines,
    status_table,
    variant_lines,
)
from tests.client.terminal.described import MODEL, STATUS


def text_of(table: Table, width: int | None = None) -> str:
    file = io.StringIO()
    print_table(table, file, width)
    return file.getvalue()


def words(table: Table) -> list[list[str]]:
    return [line.split() for line in text_of(table).splitlines()]


def test_models_are_a_row_for_each_port() -> None:
    assert text_of(models_table([MODEL])) == (
        "MODEL      VERSION  SLOTS  RUNS   BATCH   MEMORY  PORT  NAME   TENSOR\n"
        "segmenter  2            4  async      8  6.5 MiB  in    image  UINT8[?,3,1..640]\n"
        "                                                  in    words  BYTES[any rank]\n"
        "                                                  out   mask   FP32[2..,4]\n"
    )


def test_weights_and_priorities_are_shown_if_models_differ_in_them() -> None:
    other = replace(MODEL, name="other", weight=1, priority=0, memory_bytes=0)
    rows = words(models_table([MODEL, other]))
    assert rows[0][4:8] == ["BATCH", "WEIGHT", "PRIORITY", "MEMORY"]
    assert rows[1][4:9] == ["8", "3", "1", "6.5", "MiB"]
    assert rows[4][4:8] == ["8", "1", "0", "-"]


def test_states_are_a_row_for_each_version() -> None:
    states = [ModelState("m", "10", "UNAVAILABLE", "unloaded"), ModelState("n", "", "UNAVAILABLE", "no \x1b model")]
    assert words(states_table(states)) == [
        ["MODEL", "VERSION", "STATE", "REASON"],
        ["m", "10", "UNAVAILABLE", "unloaded"],
        ["n", "-", "UNAVAILABLE", "no", "\\x1b", "model"],
    ]


def test_what_becomes_of_variables_is_told_below_the_table() -> None:
    assert state_lines([MODEL, replace(MODEL, has_variables=False), replace(MODEL, version="3", sequences=True)]) == [
        "segmenter 2: its variables are reset before each inference; headrace-server keeps state with --state",
        "segmenter 3: its variables go from request to request of a sequence of the Open Inference Protocol",
    ]


def test_the_status_is_a_row_for_each_model() -> None:
    assert status_lines(STATUS, "localhost:8001") == [
        "headrace 0.1.0 at localhost:8001, serving",
        "streams 3 · tickets in flight 12 · queued inputs 0 B · kept outputs 1.5 KiB",
        "memory for requests 3 MiB of 1 GiB (unsent 3 MiB) · of the process 300 MiB",
        "workers 1: streams 3, tickets 12, 300 MiB · 2 has not answered for 5 s",
    ]
    late = replace(STATUS, loop_lag=0.0123)
    assert status_lines(late, "x")[0] == "headrace 0.1.0 at x, serving · event loop late by 12 ms"
    assert status_lines(replace(STATUS, loop_lag=0.0049), "x")[0] == "headrace 0.1.0 at x, serving"
    idle = replace(STATUS, memory=Account("memory", 0, 1 << 30), accounts=(), resident_bytes=0, workers=())
    assert status_lines(idle, "x")[2:] == ["memory for requests 0 B of 1 GiB · of the process 0 B"]
    assert len(status_lines(replace(idle, memory=Account("memory", 0, 0)), "x")) == 2
    slots = ["FREE", "RUNNING", "STOPPING"]
    header, row = words(status_table(STATUS))
    assert header == ["MODEL", "VERSION", *slots, "RESTORING", "QUEUED", "DONE", "FAILED"]
    assert row == ["segmenter", "2", "1", "2", "1", "1", "7", "9000", "3"]
    usual = replace(STATUS, models=(replace(STATUS.models[0], slots_restoring=0),))
    header, row = words(status_table(usual))
    assert header == ["MODEL", "VERSION", *slots, "QUEUED", "DONE", "FAILED"]
    assert row == ["segmenter", "2", "1", "2", "1", "7", "9000", "3"]
    overloaded = replace(usual, models=(replace(usual.models[0], refused=800),))
    header, row = words(status_table(overloaded))
    assert (header[-1], row[-1]) == ("REFUSED", "800")


def test_variants_are_told_below_the_table() -> None:
    assert variant_lines(STATUS) == ["segmenter 2: 800 runs computed only mask, score · variant of 5 MiB"]


def test_outputs_are_a_row_each() -> None:
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
def test_a_table_is_never_wider_than_the_terminal(width: int) -> None:
    long = {f"{'output' * 10}{i}": np.full((1, 3, 224, 224), 1 / 3, np.float32) for i in range(3)}
    text = text_of(outputs_table(long), width)
    assert max(map(len, text.splitlines())) <= width
    assert "".join(text.split()).count("0.3333") == 3 * 7


def test_without_a_terminal_each_row_is_one_line() -> None:
    outputs = {"o" * 300: np.zeros(3, np.float32)}
    assert len(text_of(outputs_table(outputs)).splitlines()) == 2


def test_markup_and_escapes_in_names_have_no_effect() -> None:
    names = ["[bold]x[/bold]", ":smile:", "\x1b[31mred", "two\nlines"]
    text = text_of(outputs_table({name: np.zeros(1) for name in names}))
    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [
        "[bold]x[/bold]",
        ":smile:",
        r"\x1b[31mred",
        r"two\nlines",
    ]
