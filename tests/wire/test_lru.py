"""The bounded cache: what it keeps, what it evicts, and what it counts."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.wire import lru
from headrace.wire.lru import LruCache


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(lru) == (0, 2)


def test_a_stored_value_is_found() -> None:
    cache = LruCache[str, int](2)
    assert cache.put("a", 1) == []
    assert cache.get("a") == 1
    assert cache.get("b") is None
    assert "a" in cache
    assert "b" not in cache


@pytest.mark.parametrize("use", [lambda cache, key: cache.get(key), lambda cache, key: cache.touch(key)])
def test_the_least_recently_used_entry_is_evicted(use: Callable[[LruCache[str, int], str], object]) -> None:
    cache = LruCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    use(cache, "a")
    assert cache.put("c", 3) == [("b", 2)]
    assert list(cache) == ["a", "c"]


def test_a_missed_key_cannot_be_touched() -> None:
    with pytest.raises(KeyError):
        LruCache[str, int](1).touch("a")


def test_storing_a_key_again_replaces_its_value_and_its_size() -> None:
    cache = LruCache[str, int](2, 100)
    cache.put("a", 1, 60)
    cache.put("b", 2, 10)
    assert cache.put("a", 3, 80) == []
    assert cache.get("a") == 3
    assert cache.nbytes == 90
    assert list(cache) == ["b", "a"]


def test_as_many_entries_are_evicted_as_a_large_one_needs() -> None:
    cache = LruCache[str, int](10, 100)
    for key in "abc":
        cache.put(key, ord(key), 30)
    assert cache.put("d", 0, 60) == [("a", 97), ("b", 98)]
    assert cache.nbytes == 90


def test_an_entry_over_the_bound_evicts_only_itself() -> None:
    cache = LruCache[str, int](10, 100)
    cache.put("a", 1, 50)
    assert cache.put("b", 2, 101) == [("b", 2)]
    assert list(cache) == ["a"]
    assert cache.put("a", 3, 101) == [("a", 3)]
    assert len(cache) == cache.nbytes == 0


def test_an_entry_can_be_removed() -> None:
    cache = LruCache[str, int](10, 100)
    cache.put("a", 1, 50)
    assert cache.pop("a") == 1
    assert cache.pop("a") is None
    assert len(cache) == cache.nbytes == 0


def test_its_repr_shows_its_load() -> None:
    cache = LruCache[str, int](10)
    cache.put("a", 1, 50)
    assert repr(cache) == "<LruCache: 1 of 10 entries>"
    bounded = LruCache[str, int](10, 100)
    bounded.put("a", 1, 50)
    assert repr(bounded) == "<LruCache: 1 of 10 entries, 50 of 100 bytes>"


Operation = tuple[str, int, int]


@given(st.lists(st.tuples(st.sampled_from(["get", "put", "pop"]), st.integers(0, 6), st.integers(0, 12))))
def test_it_behaves_as_a_list_ordered_by_use(operations: list[Operation]) -> None:
    cache = LruCache[int, str](4, 20)
    model: list[tuple[int, int]] = []  # key and size, least recently used first
    for what, key, size in operations:
        found = next((entry for entry in model if entry[0] == key), None)
        if what == "get":
            assert (cache.get(key) is not None) == (found is not None)
            if found:
                model.remove(found)
                model.append(found)
            continue
        if found:
            model.remove(found)
        if what == "pop":
            assert (cache.pop(key) is not None) == (found is not None)
            continue
        model.append((key, size))
        evicted = []
        while len(model) > 4 or sum(size for _, size in model) > 20:
            evicted.append(model.pop(0)[0])
        assert [key for key, _ in cache.put(key, str(key), size)] == evicted
        assert list(cache) == [key for key, _ in model]
        assert cache.nbytes == sum(size for _, size in model) <= 20
