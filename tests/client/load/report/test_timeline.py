"""A phase in buckets: what was due, what ended, and what failed in each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.planning.phases import OpenLoop
from headrace.client.load.record.samples import NO_SAMPLES, concatenated
from headrace.client.load.report.timeline import time_buckets
from tests.client.load.synthetic_runs import outcome, samples, stalled, steady

LOAD = OpenLoop(10, 10)


def test_a_stall_appears_in_its_bucket() -> None:
    found = time_buckets(stalled(), buckets=10)
    assert [bucket.start for bucket in found] == pytest.approx(list(range(10)))
    assert [bucket.count for bucket in found] == [100] * 10
    assert [bucket.throughput for bucket in found] == pytest.approx([100] * 5 + [0, 200] + [100] * 3, abs=1)
    assert [round(bucket.max or 0, 3) for bucket in found] == [0.001] * 5 + [1.401, 0.501] + [0.001] * 3
    assert found[5].p50 == pytest.approx(1.401 - 0.009 * 50)
    assert found[5].p99 == pytest.approx(1.401 - 0.009)


def test_failures_are_counted_where_they_were_due_and_have_no_latency() -> None:
    measured = concatenated([samples(np.arange(20) / 20, 0.01), samples(np.arange(2, 12) / 10 + 1, 5.0, code=14)])
    found = time_buckets(outcome(LOAD, measured, 7.0), buckets=7)
    assert [len(found), found[0].errors, sum(bucket.errors for bucket in found[1:])] == [6, 0, 10]
    assert (found[1].p50, found[1].p99, found[1].max) == (None, None, None)
    assert sum(bucket.throughput * bucket.width for bucket in found) == pytest.approx(20)


def test_the_number_of_buckets_follows_the_number_of_requests() -> None:
    assert len(time_buckets(steady())) == 120
    assert len(time_buckets(outcome(LOAD, samples(np.arange(50) / 5, 0.01)))) == 10
    assert len(time_buckets(outcome(LOAD, samples([0.0], 0.0), 0.0))) == 1
    assert time_buckets(outcome(LOAD, NO_SAMPLES)) == []


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.sampled_from([0, 8, -1])), min_size=1))
def test_every_request_is_in_exactly_one_bucket(rows: list[tuple[float, float, int]]) -> None:
    due, latency, code = zip(*rows, strict=True)
    found = time_buckets(outcome(LOAD, samples(due, latency, code=code)))
    assert sum(bucket.count for bucket in found) == len(rows)
    assert sum(bucket.errors for bucket in found) == sum(each != 0 for each in code)
    assert sum(bucket.throughput * bucket.width for bucket in found) == pytest.approx(code.count(0))
