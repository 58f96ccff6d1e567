"""The text report: its content, and that it fits a screen of 24 lines and 80 columns."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.record.run import Run
from headrace.client.load.record.samples import concatenated
from headrace.client.load.report.text.text_report import print_report
from tests.client.load.synthetic_runs import (
    failed,
    outcome,
    overloaded,
    run,
    samples,
    searched,
    stalled,
    steady,
    sweep,
    with_statistics,
)

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(*runs: Run, width: int | None = 80) -> list[str]:
    file = io.StringIO()
    print_report(runs, file, width)
    return file.getvalue().splitlines()


def line_of(lines: list[str], beginning: str) -> list[str]:
    """The words of the only line with this beginning, without the beginning."""
    (found,) = (line for line in lines if line.startswith(beginning))
    return found.removeprefix(beginning).split()


def test_the_report_of_a_normal_run_is_one_screen() -> None:
    assert printed(run(steady())) == [
        "resnet50 at 127.0.0.1:8001 · headrace stream · headrace 0.1.0",
        "2 streams, window 64, 1 process · 10 s (warm-up 1 s) · 2025-11-22 20:47 UTC",
        "inputs x FP32[1,16] random · outputs all",
        "",
        "              THROUGHPUT  PLAN   P50   P90   P99  P99.9   MAX",
        "LOAD               per s     %    ms    ms    ms     ms    ms  ERRORS",
        "200/s                200   100  4.00  4.00  4.00   4.00  4.00       0",
        "service time                    3.90  3.90  3.90   3.90  3.90",
        "rate 200/s of 200/s planned: 2,000 sent in 10 s, 0 late, 0 unsent",
        "",
        "WHERE THE TIME WENT  CLIENT  NETWORK  QUEUE  INFERENCE",
        "mean ms                   ░        ▒      ▓          █  LATENCY",
        "all requests          0.100    0.900   1.00       2.00     4.00  ▒▒▒▒▓▓▓▓███████",
        "slowest 1 %           0.100    0.900   1.00       2.00     4.00  ▒▒▒▒▓▓▓▓███████",
    ]


@pytest.mark.parametrize(
    "measured",
    [run(steady()), run(stalled()), run(overloaded()), run(failed()), run(with_statistics()), sweep(), searched()],
)
def test_every_report_fits_the_screen(measured: Run) -> None:
    lines = printed(measured)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_stall_shows_in_the_latency_above_the_service_time() -> None:
    lines = printed(run(stalled()))
    assert line_of(lines, "100/s") == ["100", "84.5", "1.00", "501", "1,310", "1,390", "1,400", "0"]
    assert line_of(lines, "service time") == ["1.00", "1.00", "1.00", "1.00", "1,400"]
    assert lines[-2] == "! only 84.5 % of the plan was kept: of 1,000 requests, 155 were sent late"


def test_the_report_of_an_overload_ends_with_warnings() -> None:
    lines = printed(run(overloaded()), width=None)
    assert "rate 186/s of 500/s planned: 1,863 sent in 10.4 s, 1,764 late, 3,137 unsent" in "\n".join(lines)
    assert lines[-4:] == [
        "! only 1.9 % of the plan was kept: of 5,000 requests, 1,764 were sent late and 3,137 were never sent",
        "! 4,901 requests had to wait because the window was full, 3.14 s on average",
        "! the server handled only 180/s of the planned 500/s",
        "! latency grew from 665 ms to 5.97 s between the first and the last fifth of the phase",
    ]


def test_long_warnings_are_indented_below_their_mark() -> None:
    lines = printed(run(overloaded()))
    at = next(at for at, line in enumerate(lines) if line.startswith("! only"))
    assert lines[at + 1].startswith("  ")
    assert max(map(len, lines)) <= 80


def test_a_run_without_success_has_no_times() -> None:
    lines = printed(run(failed()), width=None)
    assert line_of(lines, "10/s") == ["0", "100", "-", "-", "-", "-", "-", "100"]
    assert "WHERE THE TIME WENT" not in "\n".join(lines)
    assert "! 99 of 100 requests failed: 99 UNAVAILABLE from 0 to 9.80 s ('connection refused\\\\x1b[2J')" in lines
    assert "! 1 request had not been answered when the phase ended" in lines


def test_a_sweep_is_a_row_for_each_load() -> None:
    lines = printed(sweep())
    assert line_of(lines[:12], "16 in flight") == ["799", "-", "12.0", "12.0", "12.0", "12.0", "12.0", "0"]
    assert line_of(lines[12:], "16 in flight")[:5] == ["0.100", "8.90", "1.00", "2.00", "12.0"]
    assert [line.split(" in flight")[0] for line in lines if " in flight" in line] == [
        "1",
        "2",
        "4",
        "8",
        "16",
        "32",
    ] * 2
    assert lines[-1].startswith("A closed loop sends less to a slow server")
    assert not any(line.startswith("!") for line in lines)


def test_the_warnings_of_a_sweep_name_the_load() -> None:
    broken = run(steady(ClosedLoop(1)), failed(), steady(ClosedLoop(3)))
    assert [line.split(": ")[0] for line in printed(broken, width=None) if line.startswith("!")] == ["! 10/s"] * 4


def repeated(latencies: tuple[float, ...], **settings: Any) -> Run:
    return run(*(steady(latency=latency) for latency in latencies), repeat=len(latencies), **settings)


def test_repetitions_are_one_row_with_its_confidence() -> None:
    lines = printed(repeated((0.004, 0.005, 0.006)))
    assert line_of(lines, "3 times 200/s") == ["200", "100", *["5.00"] * 5, "0"]
    assert line_of(lines, "± at 95 %") == ["0.029", *["2.48"] * 4]
    assert not any(line.startswith("200/s") for line in lines)
    assert len(lines) <= 24


def test_a_difference_within_the_noise_is_marked_and_explained() -> None:
    first, same, other = (repeated(each) for each in ((0.004, 0.005, 0.006), (0.005, 0.006, 0.005), (0.02, 0.02, 0.02)))
    lines = printed(first, same, width=None)
    assert line_of(lines, "B against A") == ["0", "%", *["~", "+6.7", "%"] * 4, "+6.7", "%"]
    assert lines[-1].startswith("~: within noise, no more than chance would explain at 95 %, by a t test over the rep")
    assert "~" not in "".join(printed(first, other, width=None))


def test_runs_that_were_not_measured_alike_are_a_warning() -> None:
    lines = printed(run(steady()), run(steady(), model="resnet18", window=8), width=None)
    assert lines[-1] == "! B was not measured like A: model resnet18, not resnet50; window 8, not 64"


def test_a_search_is_a_row_for_each_rate_and_the_rate_that_holds() -> None:
    lines = printed(searched())
    assert line_of(lines, "283 ") == ["2", "of", "2", "283", "3.29", "19.7", "yes"]
    assert line_of(lines, "295 ") == ["0", "of", "2", "294", "4.16", "34.3", "no", "p99", "34.3", "ms"]
    rates = [float(line.split()[0]) for line in lines if " of " in line]
    assert rates == sorted(rates)
    assert lines[-1] == "p99 < 20 ms holds up to 283/s and fails at 295/s"
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_search_shows_the_figure_it_is_about_and_the_warnings_at_its_limit_only() -> None:
    lines = printed(searched("p95<1s", capacity=40, first=20))
    assert "P95" in "".join(lines)
    assert any(line.endswith(" answered") or " latency grew to " in line for line in lines)
    found = next(line for line in lines if line.startswith("p95 < 1 s holds up to "))
    warned = {line.split()[1] for line in lines if line.startswith("!")}
    assert warned <= {f"{rate}:" for rate in found.split() if rate.endswith("/s")}


def test_a_note_explains_missing_server_times() -> None:
    lines = printed(run(stalled()))
    assert line_of(lines, "all requests")[:6] == ["108", "0", "2.40", "-", "-", "111"]
    assert any(line.startswith("Where QUEUE is -, the server reports no times") for line in lines)
    assert line_of(printed(run(with_statistics())), "all requests")[:5] == ["0", "1.00", "1.00", "2.00", "4.00"]


def test_waits_have_a_column_if_they_are_a_notable_part_of_the_time() -> None:
    for waited, cells in ((0.5, ["0.500", "0.500", "9.00"]), (0.1, ["1.00", "9.00"])):
        measured = samples(np.arange(100) / 10, 0.01, wait=0.001, window=waited / 1e3)
        found = line_of(printed(run(outcome(OpenLoop(10, 10), measured))), "all requests")
        assert found[: len(cells)] == cells
        assert found[-2] == "10.0"


def test_requests_without_an_answer_mark_what_is_a_lower_bound() -> None:
    measured = concatenated([samples(np.arange(190) / 100, 0.001), samples(np.arange(190, 200) / 100, 2.0, code=14)])
    lines = printed(run(outcome(OpenLoop(100, 100), measured, 2.0)))
    assert line_of(lines, "100/s")[2:7] == ["1.00", "1.00", "≥2,000", "-", "≥2,000"]
    assert line_of(lines, "answered") == ["1.00", "1.00", "1.00", "-", "1.00"]


def test_two_runs_are_listed_together_with_their_differences() -> None:
    before, after = run(steady(), name="before.jsonl"), run(steady(latency=0.005), name="after.jsonl")
    lines = printed(before, after)
    titles = [(line[:13], line.rsplit(" · ")[-1]) for line in (lines[0], lines[2])]
    assert titles == [("A resnet50 at", "before.jsonl"), ("B resnet50 at", "after.jsonl")]
    figures = lines[:12]
    assert line_of(figures, "A 200/s")[2] == "4.00"
    assert line_of(figures, "B 200/s")[2] == "5.00"
    assert " ".join(line_of(figures, "B against A")) == "0 % +25 % +25 % +25 % +25 % +25 %"
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_single_phases_are_compared_whatever_their_loads() -> None:
    lines = printed(run(steady(OpenLoop(200, 200))), run(steady(ClosedLoop(4), 0.002)))
    assert " ".join(line_of(lines, "B against A")) == "0 % -50 % -50 % -50 % -50 % -50 %"


def test_sweeps_are_compared_load_by_load() -> None:
    other = sweep("other.jsonl", slower=2)
    del other.outcomes[1]
    lines = printed(sweep(), other, sweep())
    changes = [line for line in lines if " against A" in line]
    assert [line.split()[0] for line in changes] == ["B", "C", "C", "B", "C", "B", "C", "B", "C", "B", "C"]
    assert changes[0].split()[3:] == ["0", "%", *["+100", "%"] * 3, "-", "+100", "%"]  # p99.9 needs 1,000 requests
    assert max(map(len, lines)) <= 80


def test_differences_from_a_run_without_success_are_dashes() -> None:
    lines = printed(run(failed()), run(steady()))
    assert line_of(lines, "B against A") == ["-"] * 6


def test_only_terminals_get_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown, plain = Terminal(), io.StringIO()
    runs = [run(steady()), run(failed()), run(steady(latency=0.002))]
    print_report(runs, shown, 80)
    print_report(runs, plain, 80)
    assert "\x1b" not in plain.getvalue()
    coloured = shown.getvalue()
    assert re.search(r"\x1b\[31mB: 99 of 100 requests", coloured)
    assert re.search(r"\x1b\[32m *-50 %", coloured)
    assert [line.rstrip() for line in ESCAPE.sub("", coloured).splitlines()] == plain.getvalue().splitlines()


def test_a_narrow_terminal_loses_no_column() -> None:
    assert printed(run(steady()), width=40) == printed(run(steady()), width=80)


def test_lines_are_not_broken_without_a_terminal() -> None:
    name = "x" * 300
    assert any(line.endswith(name) for line in printed(run(steady(), name=name), run(steady()), width=None))


def test_untrusted_names_cannot_control_the_terminal() -> None:
    lines = printed(run(steady(), model="\x1b[2J", server="\x07", inputs=("\x9b",), outputs=("\r",)), width=None)
    assert all(line.isprintable() for line in lines)
