"""Parts of references, written as NumPy writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.protocol.inputs import Reference
from headrace.client.protocol.slices import Slices
from headrace.wire.errors import InvalidArgument

bounds = st.one_of(st.none(), st.integers(-7, 7))
slices = st.builds(slice, bounds, bounds)


class Source:
    """A ticket that keeps an output of this shape, which is not known while it has not ended."""

    def __init__(self, shape: tuple[int, ...] | None) -> None:
        self.shape = shape

    def kept_shape(self, name: str) -> tuple[int, ...] | None:
        assert name == "boxes"
        return self.shape


def reference(shape: tuple[int, ...] | None) -> Reference:
    return Reference(None, 7, "boxes", take=True, source=Source(shape))


def applied(array: np.ndarray, part: Slices) -> np.ndarray:
    result: np.ndarray = array[tuple(slice(start, stop) for start, stop in part)]
    return result


@given(st.lists(st.lists(slices, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3), st.booleans())
def test_what_is_taken_means_what_it_means_to_numpy(indices: list[tuple[slice, ...]], known: bool) -> None:
    """Cuts of cuts included. Nothing is cut off at the end of an axis, so some of NumPy's indices are refused."""
    array = np.arange(5 * 4 * 2).reshape(5, 4, 2)
    expected, part = array, reference(array.shape if known else None)
    for index in indices:
        try:
            part = part[index]
        except ValueError:
            assert not known
            return
        except InvalidArgument:
            assert _reaches_outside(index, expected.shape)
            return
        if not known and _reaches_outside(index, expected.shape):
            return  # the server says so
        expected = expected[index]
        np.testing.assert_array_equal(applied(array, part.slices), expected)
    assert (part.tag, part.output, part.take) == (7, "boxes", True)


def _reaches_outside(index: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    for each, size in zip(index, shape, strict=False):
        start, stop = each.start or 0, size if each.stop is None else each.stop
        start, stop = (bound + size if bound < 0 else bound for bound in (start, stop))
        if not 0 <= start <= stop <= size:
            return True
    return len(index) > len(shape)


def test_an_output_that_is_not_there_yet_takes_plain_numbers() -> None:
    boxes = reference(None)
    assert boxes.slices == ()
    assert boxes[2:3].slices == ((2, 3),)
    assert boxes[:2, 1:4, :].slices == ((0, 2), (1, 4))
    assert boxes[2:8][-1:].slices == ((7, 8),), "its size is known: six"
    for index in (slice(-1, None), slice(1, None), (slice(None), slice(0, 1)), slice(0, -1)):
        with pytest.raises(ValueError, match="the size of axis 0 is not known before the ticket has ended"):
            boxes[index]


def test_an_output_that_is_there_takes_open_and_negative_ends() -> None:
    boxes = reference((6, 4))
    assert boxes[-1:].slices == ((5, 6),)
    assert boxes[:, 1:-1].slices == ((0, 6), (1, 3))
    assert boxes[np.int64(1) : np.int64(2)].slices == ((1, 2),)


@pytest.mark.parametrize(
    ("index", "error", "why"),
    [
        (2, TypeError, r"2 is not a slice; an axis stays, so the row 2 is \[2:3\]"),
        ((slice(0, 1), None), TypeError, "None is not a slice"),
        (slice(0, 4, 2), ValueError, "a slice has step 2"),
        (slice(0, 7), InvalidArgument, "slice 0:7 does not lie inside axis 0 of size 6"),
        (slice(-7, None), InvalidArgument, "slice -7: does not lie inside axis 0 of size 6"),
        (slice(3, 2), InvalidArgument, "slice 3:2 does not lie inside axis 0 of size 6"),
        ((slice(0, 1),) * 3, InvalidArgument, "3 slices for a tensor of 2 dimensions"),
    ],
)
def test_what_cannot_be_a_part_is_refused(index: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        reference((6, 4))[index]
