"""The memory of large messages is reused. Runs in a process of its own, because an allocator keeps its state."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MESSAGES = """
import resource
from headrace.wire.memory import give_back_memory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def page_faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        message = b"".join((b"items", tensor))
        copied = b"".join((b"slice", message))
        del message, copied
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

tensor = bytes(4 << 20)
keep_freed_memory()
page_faults(3)
faults = page_faults(20) // 20
before = resident()
give_back_memory()
print(faults, before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed blocks")
def test_freed_blocks_are_used_again_and_given_back() -> None:
    command = [sys.executable, "-c", MESSAGES]
    faults, given_back = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    pages = (8 << 20) // 4096
    assert int(faults) < pages / 100
    assert int(given_back) > 7 << 20
