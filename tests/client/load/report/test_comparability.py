"""In what runs were not measured alike."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.report.comparability import CONDITIONS, MAX_VALUE_CHARACTERS, unlike
from tests.client.load.synthetic_runs import run, searched, steady, sweep

ANY = steady()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"target": "other:1", "server": "headrace 9", "started": "2031", "seed": 1, "processes": 2}, []),
        ({"model": "resnet18"}, ["model resnet18, not resnet50"]),
        ({"version": "3"}, ["version 3, not the server's choice"]),
        ({"outputs": ()}, ["outputs none, not all"]),
        ({"mode": "unary", "window": 1}, ["protocol headrace unary, not headrace stream", "window 1, not 64"]),
        ({"timeout": None}, ["timeout none, not 0.25 s"]),
        ({"cpus": 2, "client": "0.2.0"}, ["client 0.2.0, not 0.1.0", "CPUs of the client 2, not 8"]),
    ],
)
def test_what_changes_the_work_is_named(changes: dict[str, Any], found: list[str]) -> None:
    assert unlike(run(ANY), run(ANY, **changes)) == found


def test_loads_and_durations_are_conditions_too() -> None:
    assert unlike(run(ANY), run(steady(OpenLoop(100, 100)))) == ["loads 100/s, not 200/s"]
    assert unlike(sweep(), run(steady(ClosedLoop(1)))) == [
        "loads 1 in flight, not 1 in flight, 2 in flight, 4 in flight and 3 more"
    ]
    longer = run(steady())
    longer.outcomes[0].phase = longer.outcomes[0].phase.__class__(ANY.phase.load, 1.0, None, 2000)
    assert unlike(run(ANY), longer) == ["duration 2,000 requests, not 10 s"]


def test_a_search_has_the_rates_it_has() -> None:
    assert unlike(searched(), searched(capacity=300)) == []
    assert unlike(run(ANY), searched()) == ["search p99<20ms, not none"]


def test_long_and_hostile_values_are_short_and_printable() -> None:
    (found,) = unlike(run(ANY), run(ANY, model="\x1b[2J" + "x" * 1000))
    assert "\x1b" not in found
    assert len(found) < 3 * MAX_VALUE_CHARACTERS


def test_every_condition_is_compared() -> None:
    assert {"model", "inputs", "outputs", "window", "search"} < CONDITIONS.keys()
