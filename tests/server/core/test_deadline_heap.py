"""Items that become due, compared with a plain dict. The heap stays small however often times are moved."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.server.core.deadlines import Deadlines


class Item:
    def __init__(self, name: int) -> None:
        self.name = name
        self.due: float | None = None
        self.entry: float | None = None

    def __repr__(self) -> str:
        return f"<{self.name} due {self.due}>"


moves = st.lists(
    st.tuples(st.sampled_from(["set", "set", "drop", "pop"]), st.integers(0, 5), st.integers(0, 12)), max_size=60
)


@given(moves)
@settings(max_examples=300)
def test_each_item_is_popped_once_when_it_is_due(said: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(6)]
    expected: dict[Item, float] = {}
    for what, which, when in said:
        item = items[which]
        if what == "set":
            deadlines.set(item, when)
            expected[item] = when
        elif what == "drop":
            deadlines.drop(item)
            expected.pop(item, None)
        else:
            popped = [*deadlines.pop(when)]
            due = {item for item, time in expected.items() if time <= when}
            assert len(popped) == len(set(popped))
            assert set(popped) == due
            for each in due:
                del expected[each]
        assert len(deadlines) == len(expected)
        assert {item: item.due for item in items if item.due is not None} == expected
        assert deadlines.first == math.inf if not expected else deadlines.first <= min(expected.values())


def test_items_are_popped_in_the_order_of_their_times() -> None:
    deadlines: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(5)]
    for item, due in zip(items, [5, 1, 4, 1, 3], strict=True):
        deadlines.set(item, due)
    deadlines.set(items[0], 2)
    deadlines.set(items[1], 6)
    assert [item.name for item in deadlines.pop(4)] == [3, 0, 4, 2]
    assert [item.name for item in deadlines.pop(6)] == [1]
    assert deadlines.first == math.inf


def test_an_item_that_is_popped_may_be_set_again_meanwhile() -> None:
    deadlines: Deadlines[Item] = Deadlines()
    item = Item(1)
    deadlines.set(item, 1)
    for popped in deadlines.pop(1):
        deadlines.set(popped, 2)
    assert [*deadlines.pop(1)] == []
    assert [*deadlines.pop(2)] == [item]


def test_dropping_an_item_that_is_not_set_is_harmless() -> None:
    deadlines: Deadlines[Item] = Deadlines()
    deadlines.drop(Item(1))
    assert len(deadlines) == 0


class TestBoundedHeap:
    """Places in the heap: twice the items that are due, and 64."""

    def test_items_that_are_set_and_dropped_leave_the_heap_bounded(self) -> None:
        deadlines: Deadlines[Item] = Deadlines()
        stay = [Item(name) for name in range(10)]
        for item in stay:
            deadlines.set(item, 5000)
        for name in range(5000):
            item = Item(name)
            deadlines.set(item, 10_000 + name)
            deadlines.drop(item)
            assert len(deadlines._heap) <= 2 * 10 + 65
        assert set(deadlines.pop(99_999)) == set(stay)
        assert not deadlines._heap

    def test_items_that_are_moved_later_leave_the_heap_bounded(self) -> None:
        deadlines: Deadlines[Item] = Deadlines()
        item = Item(1)
        for due in range(5000):
            deadlines.set(item, due)
        assert len(deadlines._heap) == 1
        assert [*deadlines.pop(4998)] == []
        assert [*deadlines.pop(4999)] == [item]

    def test_items_that_are_moved_earlier_leave_the_heap_bounded(self) -> None:
        deadlines: Deadlines[Item] = Deadlines()
        item = Item(1)
        for due in range(5000, 0, -1):
            deadlines.set(item, due)
            assert len(deadlines._heap) <= 2 + 65
        assert [*deadlines.pop(1)] == [item]
        assert [*deadlines.pop(5000)] == []

    @pytest.mark.parametrize("others", range(4))
    def test_items_that_are_moved_to_and_fro_leave_the_heap_bounded(self, others: int) -> None:
        """A place that stands for nothing has the time of one that does."""
        deadlines: Deadlines[Item] = Deadlines()
        item = Item(1)
        for name in range(others):
            deadlines.set(Item(name), 20_000)
        for now in range(500):
            deadlines.set(item, 10_000)
            assert len(deadlines._heap) <= 2 * (others + 1) + 64
            deadlines.set(item, now)
            assert [*deadlines.pop(now)] == [item]
        deadlines.set(item, 10_000)
        assert [*deadlines.pop(10_000)] == [item]
        assert [*deadlines.pop(10_000)] == []


def test_deadlines_show_their_load() -> None:
    deadlines: Deadlines[Item] = Deadlines()
    deadlines.set(Item(1), 5)
    assert repr(deadlines) == "<Deadlines 1 active, 1 entries>"
