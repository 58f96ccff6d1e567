"""Operations that are held to be safe do not fail, whatever their data, and no run answers with an earlier one's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from headrace.server.engine.graph.safety import SAFE
from tests.server.engine.graph.safety.registry import GROUPS

Walk = subprocess.CompletedProcess[str]
AT_ONCE = 2


@pytest.fixture(scope="module")
def walks() -> Iterator[dict[str, Future[Walk]]]:
    """A process for each group of operations, some of them at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {group: pool.submit(walk, group) for group in GROUPS}


def walk(group: str) -> Walk:
    command = [sys.executable, "-m", "tests.server.engine.graph.safety.walk", group]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
def test_nothing_fails_on_hostile_data(walks: dict[str, Future[Walk]], group: str) -> None:
    ended = walks[group].result()
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    begun = [line["begins"] for line in lines if "begins" in line]
    assert ended.returncode == 0, f"ended by {ended.returncode} in {begun[-1:]}: {ended.stderr}"
    assert [line for line in lines if "problem" in line] == []
    assert lines[-1] == {"ends": True}
    assert Counter(begun) == {key: len(examples) for key, examples in GROUPS[group].items()}


def test_every_safe_operation_has_its_examples() -> None:
    keys = [key for examples in GROUPS.values() for key in examples]
    assert sorted(keys) == sorted(SAFE)
    assert all(examples[key] for examples in GROUPS.values() for key in examples)
