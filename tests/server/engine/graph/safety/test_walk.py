"""Operations on the list of safe ones do not fail, whatever their data, and no run returns an earlier run's result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from headrace.server.engine.graph.safety import SAFE
from tests.server.engine.graph.safety.registry import GROUPS
from tests.server.engine.walks import take_walk

AT_ONCE = 2


@pytest.fixture(scope="module")
def walks() -> Iterator[dict[str, Future[list[str]]]]:
    """A process for each group of operations, two at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {group: pool.submit(take_walk, "tests.server.engine.graph.safety.walk", group) for group in GROUPS}


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_fails_on_hostile_data(walks: dict[str, Future[list[str]]], group: str) -> None:
    begun = walks[group].result()
    assert Counter(begun) == {key: len(examples) for key, examples in GROUPS[group].items()}


def test_every_safe_operation_has_its_examples() -> None:
    keys = [key for examples in GROUPS.values() for key in examples]
    assert sorted(keys) == sorted(SAFE)
    assert all(examples[key] for examples in GROUPS.values() for key in examples)
