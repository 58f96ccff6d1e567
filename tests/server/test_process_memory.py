"""How much memory the process may have: the least of what the machine and its cgroups, of both versions, allow."""

from __future__ import annotations

import mmap
import os
import resource
from pathlib import Path

import pytest

from headrace.server.process_memory import available_bytes, mapped_bytes

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{5 * MIB}\n"}, 5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{7 * MIB}"}, 7),
        ({"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{9 * MIB}\n"}, 9),
        # A container sees its own cgroup as the outermost one, though the path is the host's.
        ({"proc/self/cgroup": "4:cpu,memory:/host/x\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * MIB}"}, 3),
    ],
)
def test_a_cgroup_may_allow_less_than_the_machine_has(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert available_bytes(write(tmp_path, files)) == expected * MIB


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "0", ""])
def test_without_a_limit_it_is_the_memory_of_the_machine(tmp_path: Path, limit: str) -> None:
    files = {"proc/self/cgroup": "4:memory:/\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": limit}
    everything = available_bytes(tmp_path / "nothing")
    assert available_bytes(write(tmp_path, files)) == everything > 64 * MIB


def test_what_is_in_use_is_known_when_no_descriptor_is_left() -> None:
    before = mapped_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/proc/self/statm", os.O_RDONLY)
        # What is allocated may be memory that was freed before. Meanwhile the stacks of threads that end are unmapped.
        with mmap.mmap(-1, 1024 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
            assert mapped_bytes() - before >= 512 * MIB
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
