"""Strings get into the runtime and out of it as they are, in memory and time of their size."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.server.core.calls import MAX_ZERO_BYTES
from headrace.server.engine import strings
from headrace.server.engine.run_inputs import zeros
from headrace.server.engine.strings import MAX_BOUND_ELEMENTS, string_input, string_output
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import encode_bytes
from tests.own_time import takes_at_most

MANY = MAX_BOUND_ELEMENTS + 1


def there_and_back(elements: list[bytes], shape: tuple[int, ...]) -> None:
    data = encode_bytes(np.fromiter(elements, object, len(elements)))
    tensor = string_input(data, shape)
    output = string_output(tensor)
    assert tuple(tensor.shape) == shape
    assert (output.shape, bytes(output.read())) == (shape, data)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.sampled_from([1, MANY]))
def test_strings_survive(elements: list[bytes], repeats: int) -> None:
    """Whether the binding takes them or not, NUL bytes at their ends included."""
    there_and_back(elements * repeats, (repeats, len(elements)))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3, 5), (2, MANY), (1, 1, 1, 1, 1, 1, 1, 1)], ids=str)
def test_strings_of_any_shape_survive(shape: tuple[int, ...]) -> None:
    there_and_back([b"%d" % number for number in range(int(np.prod(shape)))], shape)


@pytest.mark.parametrize("long_at", [0, 8000, 15_999])
def test_a_long_string_among_short_ones_takes_as_much_as_its_size(long_at: int) -> None:
    """Padded to the longest, these would take 240 GB; read two by two, the event loop would stand for 150 ms."""
    elements = [b"x" * 15_000_000 if number == long_at else b"" for number in range(16_000)]
    data = encode_bytes(np.array(elements, object))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with takes_at_most(0.1):
        output = string_output(string_input(data, (16_000,)))
    assert bytes(output.read()) == data
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_strings_that_were_put_together_do_not_change() -> None:
    """The model that puts them together writes to another tensor each time."""
    tensors = [string_input(encode_bytes(np.array([b"%d" % number] * MANY, object)), (MANY,)) for number in range(5)]
    for number, tensor in enumerate(tensors):
        assert bytes(string_output(tensor).read()) == encode_bytes(np.array([b"%d" % number] * MANY, object))


def test_threads_do_not_meet() -> None:
    def convert(number: int) -> None:
        for size in range(MANY, MANY + 50):
            there_and_back([b"%d-%d" % (number, size)] * size, (size,))

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(convert, range(8))] == [None] * 8


def test_large_strings_are_not_held_by_the_converters() -> None:
    there_and_back([b"x" * 1_000_000] * MANY, (MANY,))
    assert not vars(strings._converters)
    there_and_back([b""] * 16_000, (16_000,))  # elements take memory, too
    assert not vars(strings._converters)


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="element 1 claims 9 bytes, but only 1 are left"):
        string_input(b"\1\0\0\0a\x09\0\0\0b", (2,))


def test_zeros_share_their_memory() -> None:
    assert not any(zeros(1 << 16))
    assert len(zeros(MAX_ZERO_BYTES)) == MAX_ZERO_BYTES
    assert zeros(7).readonly
    one, other = (np.frombuffer(zeros(size), np.uint8).ctypes.data for size in (5, 500))
    assert one == other
