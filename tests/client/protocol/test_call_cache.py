"""The calls of a stream stay within the numbers and bytes of the contract; the least recently used are evicted."""

import numpy as np
import pytest

from headrace.client.protocol.call_cache import CallCache
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument
from tests.client.protocol.made_calls import X, define, key_of


def test_the_latest_call_for_names_is_the_one_used_last() -> None:
    cache = CallCache()
    keys = [key_of({"x": x}) for x in (X, X[:2])]
    one, two = [define(cache, {"x": x})[0] for x in (X, X[:2])]
    other, _ = define(cache, {"x": X}, model="n")
    assert cache.latest[keys[0][0]] is two
    assert cache.get(keys[0]) is one
    assert list(cache.latest.values()) == [one, other]


def test_an_evicted_call_is_not_the_latest() -> None:
    cache = CallCache(max_calls=2)
    one, _ = define(cache, {"x": X}, model="m")
    two, _ = define(cache, {"x": X}, model="n")
    assert list(cache.latest.values()) == [one, two]
    three, _ = define(cache, {"x": X}, model="o")
    assert list(cache.latest.values()) == [two, three]
    assert cache.get(key_of({"x": X})) is None


def test_an_evicted_call_leaves_a_later_one_of_the_same_names_the_latest() -> None:
    cache = CallCache(max_calls=2)
    for size in range(3):
        latest, _ = define(cache, {"x": np.zeros(size, np.float32)})
    assert list(cache.latest.values()) == [latest]


@pytest.mark.parametrize("by_key", [True, False])
def test_the_number_of_the_least_recently_used_call_is_defined_again(by_key: bool) -> None:
    cache = CallCache(max_calls=4)
    calls = [define(cache, {f"x{i}": X})[0] for i in range(4)]
    assert [call.number for call in calls] == [1, 2, 3, 4]
    for i in (2, 0, 3, 1):
        if by_key:
            assert cache.get(key_of({f"x{i}": X})) is calls[i]
        else:
            cache.touch(calls[i].number)
    call, commands = define(cache, {"new": X})
    assert call.number == 3
    assert [command.kind for command in commands] == [pb.Command.DEFINE]
    assert cache.get(key_of({"x2": X})) is None
    assert len(cache) == 4


def test_descriptions_stay_within_their_bytes() -> None:
    """The server forgets no description on its own, so evicted calls are described as empty."""
    cache, held = CallCache(max_calls=64, max_bytes=2000), dict[int, int]()
    for i in range(200):
        call, commands = define(cache, {"x": X}, model=f"{i:<{100 + i}}")
        for command in commands:
            held[command.call] = command.define.ByteSize()
            assert sum(held.values()) <= 2000
        assert commands[-1].call == call.number
    assert max(held) <= 64


def test_a_call_that_does_not_fit_into_a_frame_is_refused_and_takes_no_number() -> None:
    cache = CallCache()
    with pytest.raises(InvalidArgument, match="takes 2000"):
        define(cache, {}, model="m" * 2_000_000)
    with pytest.raises(InvalidArgument, match="has 16385 inline inputs"):
        define(cache, {str(i): X for i in range(16385)})
    assert define(cache, {"x": X})[0].number == 1


def test_a_refused_call_evicts_nothing() -> None:
    cache = CallCache(max_calls=1)
    call, _ = define(cache, {"x": X})
    with pytest.raises(InvalidArgument):
        define(cache, {}, model="m" * 2_000_000)
    assert cache.get(key_of({"x": X})) is call


def test_its_repr_shows_its_load() -> None:
    cache = CallCache(max_calls=4, max_bytes=2000)
    define(cache, {"x": X})
    assert repr(cache).startswith("<CallCache: <LruCache: 1 of 4 entries, ")
