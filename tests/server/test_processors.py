"""How many processors the process may use: the least of what the scheduler and its cgroups, of both versions, allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server import processors
from headrace.server.processors import available_processors


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "scheduled_processors", lambda: 16)


def version_2(text: str) -> dict[str, str]:
    return {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": text}


def version_1(quota: str, period: str) -> dict[str, str]:
    folder = "sys/fs/cgroup/cpu/"
    files = {f"{folder}cpu.cfs_quota_us": quota, f"{folder}cpu.cfs_period_us": period}
    return {"proc/self/cgroup": "4:cpuacct,cpu:/host/x\n", **files}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (version_2("200000 100000\n"), 2),
        (version_2("150000 100000\n"), 2),
        (version_2("5000 100000\n"), 1),
        (version_2("3200000 100000\n"), 16),
        (version_2("max 100000\n"), 16),
        (version_2("0 0\n"), 16),
        (version_2(""), 16),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        (version_1("400000\n", "100000\n"), 4),
        (version_1("-1\n", "100000\n"), 16),
        ({}, 16),
    ],
)
def test_a_cgroup_may_allow_fewer_than_the_machine_has(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert available_processors(tmp_path) == expected
