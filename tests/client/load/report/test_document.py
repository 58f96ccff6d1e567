"""The JSON of a report: it matches its schema and the samples."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.record.run import Run
from headrace.client.load.record.samples import NO_SAMPLES
from headrace.client.load.report.document import document
from tests.client.load.synthetic_runs import (
    failed,
    outcome,
    overloaded,
    run,
    searched,
    stalled,
    steady,
    sweep,
    with_statistics,
)

SCHEMA = json.loads(files("headrace.client.load.report").joinpath("report.schema.json").read_text())


def checked(*runs: Run) -> Any:
    """The document as a strict JSON parser reads it, checked against the schema."""
    found = json.loads(json.dumps(document(runs), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(found)
    return found


def test_the_schema_is_valid_and_describes_every_object_completely() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    objects = [each for each in every(SCHEMA) if each.get("type") == "object"]
    assert len(objects) > 10
    for each in objects:
        assert each["additionalProperties"] is False
        assert each["required"] == list(each["properties"])
        assert each["description"]


def every(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for each in schema for found in every(each)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(found for each in schema.values() for found in every(each))]


def test_every_duration_has_its_unit_in_its_name() -> None:
    properties = {name for each in every(SCHEMA) for name in each.get("properties", ())}
    assert {name for name in properties if name.startswith(("p50", "queue", "elapsed", "timeout"))} == {
        "p50_ms",
        "p50_percent",
        "p50_differs",
        "queue_ms",
        "elapsed_ms",
        "timeout_ms",
    }


def test_the_document_of_a_run_has_settings_and_figures() -> None:
    found = checked(run(steady(), keep=("state",), outputs=("y",)))
    assert found["headrace-report"] == 1
    assert found["differences"] == []
    (one,) = found["runs"]
    assert one["name"] == "run.jsonl"
    assert one["settings"]["timeout_ms"] == 250
    assert one["settings"]["keep"] == ["state"]
    (phase,) = one["phases"]
    assert phase["load"] == {
        "kind": "open",
        "text": "200/s",
        "first_per_s": 200,
        "last_per_s": 200,
        "arrivals": "uniform",
    }
    assert (phase["warmup_ms"], phase["duration_ms"], phase["elapsed_ms"], phase["count"]) == (1000, 10000, 10000, None)
    assert (phase["planned"], phase["sent"], phase["plan_kept_percent"]) == (2000, 2000, 100)
    assert phase["latency"].pop("at_least") == []
    assert set(phase["latency"].values()) == {4.0}
    assert phase["service"].pop("at_least") == []
    assert set(phase["service"].values()) == {3.9}
    assert phase["where"] == pytest.approx(
        {
            "window_ms": 0,
            "connection_ms": 0,
            "machine_ms": 0,
            "client_ms": 0.1,
            "network_ms": 0.9,
            "queue_ms": 1,
            "inference_ms": 2,
        }
    )
    assert phase["growth"] == {"first_ms": 4, "last_ms": 4, "grew": False}
    assert phase["warnings"] == []


def test_the_document_of_a_stall_has_corrected_latencies() -> None:
    (phase,) = checked(run(stalled()))["runs"][0]["phases"]
    assert (phase["latency"]["p99_ms"], phase["service"]["p99_ms"]) == (1311, 1)
    assert (phase["late"], phase["plan_kept_percent"]) == (155, 84.5)
    assert phase["delays"]["window"] == {"requests": 155, "total_ms": pytest.approx(108_190)}
    assert phase["delays"]["processor"] == {"requests": 0, "total_ms": 0}
    assert (phase["where"]["queue_ms"], phase["where_slowest"]["inference_ms"]) == (None, None)


def test_the_document_of_an_overload_has_growth_and_warnings() -> None:
    (phase,) = checked(run(overloaded()))["runs"][0]["phases"]
    assert phase["rate_planned_per_s"] == 500
    assert phase["throughput_per_s"] == pytest.approx(180)
    assert phase["growth"]["grew"] is True
    assert len(phase["warnings"]) == 4


def test_missing_values_are_null() -> None:
    (phase,) = checked(run(failed()))["runs"][0]["phases"]
    assert [phase[name] for name in ("latency", "service", "where", "where_slowest", "growth")] == [None] * 5
    (error,) = phase["errors"]
    assert (error["code"], error["count"], error["first_message"]) == ("UNAVAILABLE", 99, "connection refused\x1b[2J")
    assert (error["first_ms"], error["last_ms"]) == (0, 9800)
    assert error["counts"] == [5] * 19 + [4]
    assert phase["no_answer"] == 1


def test_a_run_that_ended_before_it_started_has_a_document() -> None:
    for load in (OpenLoop(0.001, 5), ClosedLoop(1)):
        (phase,) = checked(run(outcome(load, NO_SAMPLES, elapsed=0.0, interrupted=True)))["runs"][0]["phases"]
        assert (phase["interrupted"], phase["sent"], phase["throughput_per_s"]) == (True, 0, 0)


def test_a_search_has_its_result_and_its_trials() -> None:
    (one,) = checked(searched())["runs"]
    found = one["search"]
    assert one["settings"]["search"] == found["condition"] == "p99<20ms"
    assert (found["holds_per_s"], found["fails_per_s"]) == (283, 295)
    assert [each["rate_per_s"] for each in found["trials"]] == [phase["load"]["last_per_s"] for phase in one["phases"]]
    assert {each["holds"]: bool(each["reason"]) for each in found["trials"]} == {True: False, False: True}
    assert checked(run(steady()))["runs"][0]["search"] is None
    (unanswered, _) = checked(run(failed(), failed(), search="p99<1s"))["runs"][0]["search"]["trials"]
    assert (unanswered["value_ms"], unanswered["reason"]) == (None, "0 % answered")


def test_means_from_server_statistics_are_in_the_document() -> None:
    (phase,) = checked(run(with_statistics(), mode="unary", protocol="oip", outputs=None))["runs"][0]["phases"]
    assert phase["where"]["queue_ms"] == 1
    assert phase["where_slowest"]["queue_ms"] is None


def test_differences_are_relative_to_the_first_run() -> None:
    slower = sweep("slower.jsonl", slower=1.5)
    del slower.outcomes[0]
    found = checked(sweep(), slower)["differences"]
    assert [(each["run"], each["load"]) for each in found] == [(1, f"{n} in flight") for n in (2, 4, 8, 16, 32)]
    assert found[0]["latency"]["p99_percent"] == pytest.approx(50)
    assert found[0]["throughput_percent"] == 0
    assert checked(run(steady()), run(failed()))["differences"][0]["latency"] is None
