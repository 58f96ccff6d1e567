"""Compiled models are kept as they are, and only under the key of the very model."""

from __future__ import annotations

import errno
import os
import resource
import tracemalloc
from pathlib import Path

import pytest

from headrace.server.loading import blob_cache
from headrace.server.loading.blob_cache import BlobCache

BLOB = bytes(range(256)) * 100


def kept(folder: Path, key: str, name: str, blob: bytes = BLOB) -> Path:
    """The file of a blob that was added and kept."""
    before = {*folder.glob("*.blob")}
    blobs = BlobCache(folder, key)
    blobs.add(name, blob)
    blobs.keep()
    blobs.close()
    (file,) = {*folder.glob("*.blob")} - before
    return file


def test_a_blob_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept(tmp_path, "k", "n")
    assert BlobCache(tmp_path, "k").read("n") == BLOB
    assert BlobCache(tmp_path, "k").read("m") is None
    assert BlobCache(tmp_path, "l").read("n") is None
    assert [*tmp_path.glob("*.new")] == []


def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    blobs = BlobCache(tmp_path, "k")
    blobs.add("n", BLOB)
    assert BlobCache(tmp_path, "k").read("n") is None
    blobs.close()
    blobs.add("n", BLOB)  # a slot that is restored later
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("damage", ["cut off", "a bit", "of another key", "empty"])
def test_a_damaged_blob_is_not_read(tmp_path: Path, damage: str) -> None:
    file = kept(tmp_path, "k", "n")
    content = file.read_bytes()
    other = kept(tmp_path, "l", "n").read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes({"cut off": content[:-1], "a bit": flipped, "of another key": other, "empty": b""}[damage])
    assert BlobCache(tmp_path, "k").read("n") is None
    kept_again = BlobCache(tmp_path, "k")
    kept_again.add("n", BLOB)
    kept_again.keep()
    assert kept_again.read("n") == BLOB


def test_those_that_were_not_used_for_the_longest_time_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_cache, "MAX_TOTAL_BYTES", 3 * (len(BLOB) + 32))
    for number in range(3):
        file = kept(tmp_path, f"k{number}", "n")
        os.utime(file, (number, number))
    assert BlobCache(tmp_path, "k0").read("n") == BLOB  # used just now
    kept(tmp_path, "k3", "n")
    assert BlobCache(tmp_path, "k1").read("n") is None
    assert [BlobCache(tmp_path, key).read("n") for key in ("k0", "k2", "k3")] == [BLOB] * 3


def test_empty_ones_are_bounded_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_cache, "MAX_BLOBS", 3)
    for number in range(5):
        os.utime(kept(tmp_path, f"k{number}", "n", b""), (number, number))
    assert [BlobCache(tmp_path, f"k{number}").read("n") for number in range(5)] == [None, None, b"", b"", b""]


def test_one_that_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_cache, "MAX_BLOB_BYTES", len(BLOB) - 1)
    blobs = BlobCache(tmp_path, "k")
    blobs.add("n", BLOB)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_written_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blobs = BlobCache(tmp_path / "gone", "k")
    blobs.add("n", BLOB)
    blobs.keep()
    blobs.close()
    assert "--cache-dir: a compiled model was not kept: " in caplog.text


def test_a_disk_that_fails_while_a_blob_is_written_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is full, and the kernel has made it read-only, so that what was written cannot be removed either."""
    read_only = OSError(errno.EROFS, "Read-only file system")

    def fails(*_: object, **__: object) -> None:
        raise read_only

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(Path, "unlink", fails)
    blobs = BlobCache(tmp_path, "k")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        blobs.add("n", BLOB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    blobs.keep()
    blobs.close()
    assert "--cache-dir: a compiled model was not kept: " in caplog.text
    assert BlobCache(tmp_path, "k").read("n") is None


def test_a_file_that_has_become_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept(tmp_path, "k", "n")
    monkeypatch.setattr(blob_cache, "MAX_BLOB_BYTES", len(BLOB))
    os.truncate(file, 1 << 26)
    tracemalloc.start()
    assert BlobCache(tmp_path, "k").read("n") is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
