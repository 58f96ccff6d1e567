"""What is kept of trials: written once, whole or not at all, and bounded."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.server.loading import cache as cache_module
from headrace.server.loading.cache import Cache
from tests.server.engine.test_findings import FINDINGS
from tests.stopwatch import Stopwatch

KEY = "a" * 64


def test_what_was_added_is_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "made" / "here")
    assert cache.read(KEY) is None
    assert cache.add(KEY, FINDINGS) == FINDINGS
    assert cache.read(KEY) == FINDINGS
    assert Cache(tmp_path / "made" / "here").read(KEY) == FINDINGS
    assert cache.read("b" * 64) is None
    assert stat.S_IMODE((tmp_path / "made" / "here").stat().st_mode) == 0o700
    assert [file.name for file in (tmp_path / "made" / "here").iterdir()] == [f"{KEY}.json"]


def test_the_first_of_two_servers_decides_for_both(tmp_path: Path) -> None:
    first, second = Cache(tmp_path), Cache(tmp_path)
    assert first.add(KEY, FINDINGS) == FINDINGS
    assert second.add(KEY, replace(FINDINGS, batch=1)) == FINDINGS
    assert second.read(KEY) == FINDINGS


def test_servers_that_add_at_the_same_moment_decide_the_same(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def add(rows: int) -> int:
        barrier.wait()
        return Cache(tmp_path).add(KEY, replace(FINDINGS, batch=rows)).batch

    with ThreadPoolExecutor(8) as threads:
        decided = set(threads.map(add, range(1, 9)))
    assert len(decided) == 1


def entry(folder: Path) -> Path:
    Cache(folder).add(KEY, FINDINGS)
    return folder / f"{KEY}.json"


def spoilt(content: bytes) -> list[bytes]:
    changed = json.loads(content)
    changed["findings"]["direct"] = not changed["findings"]["direct"]
    return [
        b"",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"1" * 100_000,
        content[:-1],
        content[: len(content) // 2],
        content.replace(b'"format": 1', b'"format": 2'),
        content.replace(b"64", b"32"),
        json.dumps(changed).encode(),
        *(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :] for place in range(0, len(content), 7)),
    ]


def test_an_entry_that_is_not_valid_is_ignored_and_written_again(tmp_path: Path) -> None:
    file = entry(tmp_path)
    for content in spoilt(file.read_bytes()):
        file.write_bytes(content)
        assert Cache(tmp_path).read(KEY) is None, content
        assert Cache(tmp_path).add(KEY, FINDINGS) == FINDINGS
        assert Cache(tmp_path).read(KEY) == FINDINGS


def test_an_entry_under_the_key_of_another_is_ignored(tmp_path: Path) -> None:
    entry(tmp_path).rename(tmp_path / f"{'b' * 64}.json")
    assert Cache(tmp_path).read("b" * 64) is None


def test_the_entries_that_were_not_used_for_longest_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "MAX_ENTRIES", 3)
    cache = Cache(tmp_path)
    for number in range(3):
        cache.add(str(number), FINDINGS)
        os.utime(tmp_path / f"{number}.json", (number, number))
    assert cache.read("0") == FINDINGS  # which is a use
    left = tmp_path / "left.new"
    left.write_text("half")
    os.utime(left, (0, 0))
    young = tmp_path / "young.new"
    young.write_text("half")
    cache.add("3", FINDINGS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.json", "2.json", "3.json", "young.new"]


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file")
    with cache.turn(1.0, lambda: False):
        assert cache.add(KEY, FINDINGS) == FINDINGS
    assert cache.read(KEY) is None
    assert "--cache-dir: nothing was kept" in caplog.text
    with pytest.raises(OSError, match="cache"):
        Cache(tmp_path / "cache")


def test_servers_take_turns_until_one_of_them_ends(tmp_path: Path, stopwatch: Stopwatch) -> None:
    program = (
        "import sys, time; from pathlib import Path; from headrace.server.loading.cache import Cache\n"
        "with Cache(Path(sys.argv[1])).turn(60, lambda: False): print('has it', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        try:
            stopwatch.start()
            with Cache(tmp_path).turn(0.2, lambda: False):
                assert stopwatch.elapsed() >= 0.2  # it waited, and then went on without a turn
            stopwatch.start()
            with Cache(tmp_path).turn(60, lambda: True):
                assert stopwatch.ran() < 1  # it has given up
            threading.Timer(0.2, other.kill).start()
            with Cache(tmp_path).turn(60, lambda: False):
                assert stopwatch.ran() < 20
        finally:
            other.kill()
