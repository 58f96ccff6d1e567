"""Samples on disk: the same as in memory, in memory that does not grow with them."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.record import spool
from headrace.client.load.record.samples import COLUMNS, NO_SAMPLES, Samples, concatenated
from headrace.client.load.record.spool import SampleSpool
from headrace.client.terminal.usage_error import UsageError
from tests.client.load.synthetic_runs import samples


def part(count: int, start: int = 0) -> Samples:
    return samples(np.arange(start, start + count) / 1000, 0.002, code=np.arange(count) % 3)


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(0, 60))
def test_what_is_taken_is_what_was_added(counts: list[int], buffered: int) -> None:
    parts = [part(count, 100 * at) for at, count in enumerate(counts)]
    filled = SampleSpool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "BUFFERED_SAMPLES", buffered)
        for each in parts:
            filled.add(each)
        taken = filled.take()
    whole = concatenated(parts)
    for name in COLUMNS:
        assert getattr(taken, name).dtype == getattr(NO_SAMPLES, name).dtype
        np.testing.assert_array_equal(getattr(taken, name), getattr(whole, name))
    assert filled.take().count == 0


def test_a_full_disk_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(UsageError, match="takes no more measurements: No space left on device; TMPDIR names another"):
        SampleSpool().add(part(spool.BUFFERED_SAMPLES + 1))


def test_all_rows_are_no_copy() -> None:
    whole = part(10)
    assert whole.select(np.ones(10, bool)) is whole
    assert whole.select(whole.code == 0).count == 4


FEED = """
import resource, sys
from tests.client.load.record.test_spool import part
from headrace.client.load.record.spool import SampleSpool
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
filled = SampleSpool()
filled.add(part(150_000))
before = peak()
for at in range(4000):
    filled.add(part(500, 500 * at))
print(peak() - before, filled.take().count)
"""


def test_two_million_samples_take_no_memory_while_they_arrive() -> None:
    ended = subprocess.run([sys.executable, "-c", FEED], capture_output=True, text=True, check=True)
    grown_kib, count = map(int, ended.stdout.split())
    assert count == 2_150_000
    assert grown_kib < 20_000  # in memory they are 116 MB


def test_the_repr_shows_the_load() -> None:
    filled: Any = SampleSpool()
    filled.add(part(3))
    assert repr(filled) == "<SampleSpool: 3 in memory, none on disk>"
