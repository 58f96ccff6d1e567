"""What the control groups of the process allow it, in both versions of Linux' interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cgroup_folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the groups that the process is in, from the innermost out, each with the version (1 or 2).

    A container sees its own group as the outermost one, though the path may be the host's. Folders need not exist.
    """
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mounts: tuple[str, ...]
        if not controllers:
            mounts, version = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), 2
        elif controller in controllers.split(","):
            mounts, version = (f"sys/fs/cgroup/{controller}",), 1
        else:
            continue
        for mount in mounts:
            inner = root / mount / path.lstrip("/")
            for folder in (inner, *inner.parents):
                yield folder, version
                if folder == root / mount:
                    break


def read_text(file: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    with suppress(OSError):
        return file.read_text()
    return ""
