"""The requests of a run as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.record.run import Run
from headrace.client.load.report.csv_table import write_csv
from tests.client.load.synthetic_runs import failed, outcome, run, samples, steady


def rows_of(*runs: Run) -> list[dict[str, str]]:
    file = io.StringIO()
    write_csv(runs, file)
    return list(csv.DictReader(io.StringIO(file.getvalue())))


def test_each_request_is_a_row_in_the_order_of_its_due_time() -> None:
    measured = samples([2.0, 1.0], [0.5, 0.25], wait=0.125, window=0.1, code=[0, 8], times=(np.nan, 0.001, 0.002))
    phase = outcome(OpenLoop(1, 1), measured)
    phase.began = 1763843220.5
    first, second = rows_of(run(phase))
    assert first == {
        "run": "run.jsonl",
        "phase": "1",
        "load": "1/s",
        "time": "2025-11-22T20:27:01.500+00:00",
        "due_s": "1",
        "sent_s": "1.125",
        "ended_s": "1.25",
        "code": "RESOURCE_EXHAUSTED",
        "latency_ms": "250",
        "service_ms": "125",
        "waiting_ms": "",
        "queued_ms": "1",
        "running_ms": "2",
        "window_wait_ms": "100",
        "connection_wait_ms": "0",
        "network_wait_ms": "0",
        "machine_wait_ms": "0",
    }
    assert (second["due_s"], second["latency_ms"], second["code"]) == ("2", "500", "OK")


def test_runs_and_phases_follow_each_other() -> None:
    rows = rows_of(
        run(steady(ClosedLoop(1), count=3), steady(ClosedLoop(2), count=2), name="a"), run(failed(), name="")
    )
    assert [(row["run"], row["phase"], row["load"]) for row in rows[:6]] == [
        *[("a", "1", "1 in flight")] * 3,
        *[("a", "2", "2 in flight")] * 2,
        ("2", "1", "10/s"),
    ]
    assert rows[-1]["code"] == "NO_ANSWER"
    assert rows[-1]["time"] == ""


def test_a_request_that_was_never_sent_has_a_row_without_a_service_time() -> None:
    measured = samples([1.0], [0.5], wait=np.inf, connection=0.5, code=14)
    (row,) = rows_of(run(outcome(OpenLoop(1, 1), measured)))
    assert (row["sent_s"], row["service_ms"], row["code"]) == ("", "", "UNAVAILABLE")
    assert (row["latency_ms"], row["connection_wait_ms"]) == ("500", "500")


def test_a_name_is_no_formula() -> None:
    (row,) = rows_of(run(steady(count=1), name="=1+1"))
    assert row["run"] == "'=1+1"
