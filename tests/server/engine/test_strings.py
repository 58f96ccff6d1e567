"""Strings get into the runtime and out of it, in chunks of any size."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from headrace.server.core.calls import MAX_ZERO_BYTES
from headrace.server.engine.run_inputs import zeros
from headrace.server.engine.strings import CHUNK_BYTES, string_input, string_output
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import encode_bytes


@pytest.mark.parametrize("input_bytes", [0, 10, CHUNK_BYTES // 7, CHUNK_BYTES, 1 << 40])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (30,), (5, 6), (3, 0, 2), (2, 3, 5)], ids=str)
def test_strings_survive_in_any_chunks(shape: tuple[int, ...], input_bytes: int) -> None:
    random = np.random.default_rng(5)
    array = np.empty(shape, object)
    for index in np.ndindex(shape):
        array[index] = random.bytes(int(random.integers(0, 40))).rstrip(b"\0")
    data = encode_bytes(array)
    output = string_output(string_input("x", data, shape), input_bytes)
    assert (output.shape, bytes(output.read())) == (shape, data)


@pytest.mark.parametrize("long_at", [(), (0,), (3, 4), (999,), (0, 500, 999)], ids=str)
def test_a_long_string_among_short_ones_takes_no_more_memory_than_itself(
    long_at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded to the longest, these would take 1 GB."""
    monkeypatch.setattr("headrace.server.engine.strings.CHUNK_BYTES", 4 << 20)
    array = np.array([b"%d" % number for number in range(1000)], object)
    array[list(long_at)] = b"x" * 1_000_000
    data = encode_bytes(array)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tensor = string_input("x", data, (10, 100))
    output = string_output(tensor, len(data))
    assert (output.shape, bytes(output.read())) == ((10, 100), data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_an_element_that_ends_in_nul_is_named() -> None:
    data = encode_bytes(np.array([b"a\0b", b"", b"c\0"], object))
    with pytest.raises(InvalidArgument, match=r"^input 'x': element 2 ends in a NUL byte"):
        string_input("x", data, (3,))


def test_zeros_share_their_memory() -> None:
    assert not any(zeros(1 << 16))
    assert len(zeros(MAX_ZERO_BYTES)) == MAX_ZERO_BYTES
    assert zeros(7).readonly
    one, other = (np.frombuffer(zeros(size), np.uint8).ctypes.data for size in (5, 500))
    assert one == other
