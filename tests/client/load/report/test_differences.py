"""Which phases correspond, and by how much they differ."""

from __future__ import annotations

import pytest

from headrace.client.load.planning.phases import ClosedLoop
from headrace.client.load.record.run import Run
from headrace.client.load.report.differences import comparison_rows, difference
from tests.client.load.synthetic_runs import run, steady


def closed(*loads: int) -> Run:
    return run(*(steady(ClosedLoop(load), count=10) for load in loads))


@pytest.mark.parametrize(
    ("first", "other", "percent"),
    [(4, 5, 25), (4, 3, -25), (4, 4, 0), (0, 0, 0), (0, 1, None), (None, 1, None), (1, None, None), (0.001, 1, 99_900)],
)
def test_differences_are_percentages_of_the_first(
    first: float | None, other: float | None, percent: float | None
) -> None:
    assert difference(first, other) == (percent if percent is None else pytest.approx(percent))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(1, 2)], [("1", "x"), ("2", "x")]),
        ([(1, 2), (2, 1)], [("1", "xx"), ("2", "xx")]),
        ([(1, 2), (2, 3)], [("1", "x-"), ("2", "xx"), ("3", "-x")]),
        ([(1,), (2,)], [("1 in flight and 2", "xx")]),
        ([(1,), (1,), (1,)], [("1", "xxx")]),
        ([(1,), (1, 2)], [("1", "xx"), ("2", "-x")]),
        ([(1, 1), (1,)], [("1", "xx"), ("1", "x-")]),
    ],
)
def test_phases_of_the_same_load_share_a_row(runs: list[tuple[int, ...]], expected: list[tuple[str, str]]) -> None:
    found = comparison_rows([closed(*loads) for loads in runs])
    assert [(row.load, "".join("x" if each else "-" for each in row.summaries)) for row in found] == [
        (f"{load} in flight", there) for load, there in expected
    ]
