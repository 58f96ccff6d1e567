"""The table and the file of the long tests, and what a bound that is broken does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.soak import __main__ as command
from tests.soak.catalogue import Experiment
from tests.soak.findings import Findings
from tests.soak.setting import Setting


def found(setting: Setting) -> Findings:
    findings = Findings()
    findings.at_least("calls", setting.of(1000), 10)
    findings.below("growth", 2.5, 2, "%")
    return findings


def failing(_: Setting) -> Findings:
    raise AssertionError("an answer is wrong")


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> int:
    monkeypatch.setattr(
        command,
        "EXPERIMENTS",
        [Experiment("growth", "soak", "nothing grows", found), Experiment("calls", "chaos", "all is right", failing)],
    )
    monkeypatch.setattr(sys, "argv", ["soak", *arguments, f"--output={tmp_path}"])
    return command.main()


def test_a_broken_bound_is_shown_written_and_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "soak", "--share=0.5") == 1
    printed = capsys.readouterr().out
    assert "growth: nothing grows\n  at 0.5 of its size, transport auto" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["calls", "500", ">=", "10"] in rows
    assert ["growth", "2.5", "%", "<", "2", "BROKEN"] in rows
    (file,) = tmp_path.iterdir()
    (experiment,) = json.loads(file.read_text())["experiments"]
    assert not experiment["holds"]
    assert [(each["what"], each["value"], each["holds"]) for each in experiment["findings"]] == [
        ("calls", 500, True),
        ("growth", 2.5, False),
    ]


def test_an_experiment_that_fails_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "calls") == 1
    assert "ended by AssertionError: an answer is wrong" in capsys.readouterr().out


def test_bounds_that_hold_are_a_success() -> None:
    findings = Findings()
    findings.equal("kept bytes", 0, 0)
    findings.below("ratio", 1.49, 1.5)
    findings.at_least("streams", 50_000, 50_000)
    findings.check()
    findings.equal("slots", 1, 0)
    with pytest.raises(AssertionError, match="slots: 1, not = 0"):
        findings.check()
