"""Slices as applications write them, and tensors divided into pieces."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.protocol.slices import SliceLike, Slices, as_slices, compose, pieces, resolve
from headrace.wire.tensors import sliced_shape


def index(slices: Slices) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in slices)


@pytest.mark.parametrize(
    ("given", "slices"),
    [
        (None, ()),
        ((0, 10), ((0, 10),)),
        ([(0, 10)], ((0, 10),)),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        (np.array([1, 2]), ((1, 2),)),
        ([], ()),
    ],
)
def test_a_slice_is_one_pair_or_several(given: SliceLike | None, slices: Slices) -> None:
    assert as_slices(given) == slices


@pytest.mark.parametrize("given", [(1,), (1, 2, 3), ((1, 2), 3), (0.0, 1.0), ("a", "b")])
def test_a_malformed_slice_is_refused(given: SliceLike) -> None:
    with pytest.raises((TypeError, ValueError)):
        as_slices(given)


INDICES = st.one_of(
    st.integers(-4, 3),
    st.just(...),
    st.builds(slice, st.none() | st.integers(-7, 7), st.none() | st.integers(-7, 7), st.sampled_from([None, 1])),
)


@given(st.lists(st.integers(0, 4), max_size=4), st.lists(INDICES, min_size=1, max_size=5), st.booleans())
def test_an_index_means_what_it_means_to_numpy(shape: list[int], parts: list[Any], alone: bool) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    asked = parts[0] if alone else (*parts, slice(None))
    if isinstance(asked, tuple) and asked.count(...) > 1:
        with pytest.raises(ValueError, match="at most one ellipsis"):
            as_slices(asked)
        return
    assert as_slices(asked) is None
    try:
        expected = array[asked]
    except IndexError:
        with pytest.raises(IndexError):
            resolve(asked, shape)
        return
    slices, dropped = resolve(asked, shape)
    assert sliced_shape(shape, slices) == array[index(slices)].shape
    found = array[index(slices)]
    np.testing.assert_array_equal(np.squeeze(found, dropped), expected)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (np.s_[::2], ValueError),
        (np.s_[:, ::-1], ValueError),
        (np.s_[:, None], TypeError),
        (np.s_[:, [1, 2]], TypeError),
        (True, TypeError),
        ("ab", TypeError),
        (1.5, TypeError),
    ],
)
def test_other_indices_are_refused(asked: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        as_slices(asked)


@given(st.data(), st.lists(st.integers(1, 5), max_size=4), st.integers(8, 400))
def test_pieces_cover_a_slice_once_and_fit(
    data: st.DataObject,
    shape: list[int],
    max_bytes: int,
) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    outer = []
    for size in shape[: data.draw(st.integers(0, len(shape)))]:
        start = data.draw(st.integers(0, size))
        outer.append((start, data.draw(st.integers(start, size))))
    wanted = array[index(tuple(outer))]
    whole = np.full(wanted.shape, -1)
    if not wanted.ndim or not wanted.size:
        return
    for piece in pieces(wanted.shape, array.itemsize, max_bytes):
        part = array[index(compose(tuple(outer), piece))]
        assert part.nbytes <= max_bytes
        assert (whole[index(piece)] == -1).all()
        whole[index(piece)] = part
    np.testing.assert_array_equal(whole, wanted)


def test_pieces_are_whole_rows_where_rows_fit() -> None:
    assert list(pieces((5, 4), 1, 8)) == [((0, 2),), ((2, 4),), ((4, 5),)]
    assert list(pieces((2, 4), 1, 3)) == [
        ((0, 1), (0, 3)),
        ((0, 1), (3, 4)),
        ((1, 2), (0, 3)),
        ((1, 2), (3, 4)),
    ]
