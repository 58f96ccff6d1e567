"""A policy chooses among the versions on disk."""

from __future__ import annotations

import pytest

from headrace.server.repository.source import NEWEST, VersionPolicy


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (NEWEST, [12]),
        (VersionPolicy(latest=2), [9, 12]),
        (VersionPolicy(latest=5), [1, 9, 12]),
        (VersionPolicy(), [1, 9, 12]),
        (VersionPolicy(listed=frozenset({12, 1, 7})), [1, 12]),
    ],
)
def test_a_policy_chooses_versions_by_number(policy: VersionPolicy, chosen: list[int]) -> None:
    assert policy.choose({9, 12, 1}) == chosen
    assert policy.choose(set()) == []
