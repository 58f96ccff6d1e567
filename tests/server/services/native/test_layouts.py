"""Layouts that a stream remembers: bounded in number and in bytes, for one stream and for all."""

from __future__ import annotations

import pytest

from headrace.server.core.calls import Call, Inline, Plan, bind
from headrace.server.core.quotas import Quota
from headrace.server.services.native.layouts import (
    MAX_STREAM_BYTES,
    RESERVED_BYTES,
    Layouts,
    plan_bytes,
)
from headrace.wire.dtypes import Datatype
from headrace.wire.limits import MAX_LAYOUTS
from tests.server.core.model_specs import grow


def plan() -> Plan:
    return bind(Call("grow", "", (Inline("x", Datatype.FP32, (4,)),), ("y",), False, ()), grow())


def use(layouts: Layouts, plan: Plan, size: int) -> int:
    """The number of the layout of one output of `size` elements."""
    key = (plan, (size,))
    return layouts.get(key) or layouts.assign(key, [(size,)])


def test_a_number_is_never_that_of_two_layouts() -> None:
    layouts, one = Layouts(Quota(32 << 20)), plan()
    for size in range(5 * MAX_LAYOUTS):
        number = use(layouts, one, size)
        assert 1 <= number <= MAX_LAYOUTS
        assert use(layouts, one, size) == number
        known = [layouts._numbers._entries[key] for key in layouts._numbers]
        assert size % 97 or len(set(known)) == len(known)
    assert layouts.nbytes <= MAX_STREAM_BYTES


def test_a_layout_that_is_used_stays() -> None:
    layouts, one = Layouts(Quota(32 << 20)), plan()
    number = use(layouts, one, 1)
    for size in range(2, 5000):
        use(layouts, one, size)
        assert use(layouts, one, 1) == number


def test_a_plan_counts_once_and_as_long_as_a_layout_refers_to_it() -> None:
    layouts, first, second = Layouts(Quota(32 << 20)), plan(), plan()
    sizes = []
    for each, size in ((first, 1), (first, 2), (second, 1)):
        before = layouts.nbytes
        use(layouts, each, size)
        sizes.append(layouts.nbytes - before)
    assert sizes[0] == sizes[2] == sizes[1] + plan_bytes(first)
    for size in range(3, 5000):
        use(layouts, second, size)
    assert list(layouts._plans) == [second]
    layouts.close()
    assert layouts.nbytes == 0
    assert not layouts._plans


def test_all_streams_together_are_bounded() -> None:
    """Each of them still remembers the layout that it uses."""
    shared, one = Quota(1 << 20), plan()
    streams = [Layouts(shared) for _ in range(256)]
    for layouts in streams:
        for size in range(100):
            number = use(layouts, one, size)
            assert use(layouts, one, size) == number
    assert sum(layouts.nbytes for layouts in streams) <= shared.limit + len(streams) * RESERVED_BYTES
    assert shared.limit - MAX_STREAM_BYTES < shared.used <= shared.limit
    for layouts in streams:
        layouts.close()
    assert shared.used == 0


def test_a_stream_remembers_little_while_other_memory_is_short() -> None:
    memory, one = Quota(1 << 20), plan()
    layouts = Layouts(Quota(1 << 20, memory))
    for size in range(100):
        use(layouts, one, size)
    assert layouts.nbytes > 2 * RESERVED_BYTES
    memory.charge(4 << 20)  # what is in use already may be more than fits
    for size in range(200, 300):
        number = use(layouts, one, size)
        assert use(layouts, one, size) == number
    assert 0 < layouts.nbytes <= RESERVED_BYTES
    layouts.close()
    assert memory.used == 4 << 20


@pytest.mark.parametrize("rank", [1, 8])
def test_a_layout_that_is_too_large_is_not_remembered(rank: int) -> None:
    layouts, one = Layouts(Quota(32 << 20)), plan()
    shapes = [(1,) * rank] * 5000
    key = (one, *shapes)
    assert layouts.get(key) is None
    assert layouts.assign(key, shapes) == 1
    assert layouts.get(key) is None
    assert layouts.nbytes == 0
    assert use(layouts, one, 1) == 1
