"""The bench itself, with one short case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.cases.catalogue import CASES
from tests.bench.command_line import parsed
from tests.bench.history.entry import append, read

PATIENCE_SECONDS = 170
"""It takes ten, but starts five processes, and machines can be busy."""


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


@pytest.mark.timeout(PATIENCE_SECONDS + 10)
def test_a_run_is_printed_and_added_to_the_history(tmp_path: Path) -> None:
    file = tmp_path / "bench" / "history.jsonl"
    arguments = ["--only", "window-1", "--rounds", "1", "--seconds", "0.2", "--history", str(file)]
    ended = bench(*arguments, "--way", "here=headrace-server", "--way", "gone=/nonexistent/server", "--strict")
    assert ended.stderr == ""
    assert "add/multiply, window 1, p50 / grpc.aio echo" in ended.stdout
    assert "/nonexistent/server cannot be run" in ended.stdout
    assert "Ratios that are judged: 1;" in ended.stdout
    assert "The machine was NOISY" in ended.stdout  # two loops are too few to know better
    (entry,) = read(file)
    assert entry["ways"]["gone"] == "/nonexistent/server"
    assert entry["echo"]["turns"] == 1
    measured, gone = entry["figures"]
    assert measured["server_us"] > 0
    assert measured["client_us"] > 0
    assert 10 < measured["values"][0] < 1e6
    assert gone["missing"].startswith("1 of 1 rounds failed: /nonexistent/server cannot be run")
    (ratio,) = entry["ratios"]
    assert ratio["must"] == 1.15
    assert ended.returncode == (ratio["verdict"] == "missed")  # and not because of a way that is not judged


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "frames-512"], "there is no case frames-512"),
        (["--way", "headrace-server"], "is not a way to serve"),
        (["--way", "a=x", "--way", "a=y"], "two ways have the same name"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(arguments, CASES)
    assert message in capsys.readouterr().err


def test_cases_are_chosen_by_patterns() -> None:
    chosen = parsed(["--only", "unary-*", "--only", "chain", "--rounds", "2"], CASES)
    assert [case.name for case in chosen.cases] == ["unary-1", "unary-8", "unary-32", "chain"]
    assert {chosen.rounds_of(case) for case in chosen.cases} == {2}


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_lines_of_the_history_that_were_cut_off_or_are_of_another_form_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert read(file) == []
    append({"headrace-bench": 1, "date": "first"}, file)
    with file.open("a") as lines:
        lines.write('{"headrace-bench": 0}\n[]\n{"headrace-bench": 1, "da\n')
    append({"headrace-bench": 1, "date": "second"}, file)
    assert [entry["date"] for entry in read(file)] == ["first", "second"]
