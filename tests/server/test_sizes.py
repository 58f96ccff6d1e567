"""Sizes, as options and files have them."""

from __future__ import annotations

import pytest

from headrace.server.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1", 1), ("64MiB", 64 << 20), ("2 kb", 2000), ("3B", 3), ("1GiB", 1 << 30), ("5 GB", 5 * 10**9)],
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size


def test_a_size_is_shown_in_the_largest_unit_of_which_it_is_a_multiple() -> None:
    sizes = [0, 1, 1023, 1024, 1536, 64 << 20, (64 << 20) + 1024, 1 << 30]
    shown = ["0", "1", "1023", "1KiB", "1536", "64MiB", "65537KiB", "1GiB"]
    assert [format_size(size) for size in sizes] == shown


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5MiB", "3XB", "1 2", "8 apples", "1" * 5000])
def test_anything_else_is_not_a_size(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not a size: give a number of bytes, or a number with a unit, such as 64MiB"
    ):
        parse_size(text)
