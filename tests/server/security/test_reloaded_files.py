"""Files that are read again: only what has settled, only what can be used, and told once."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from headrace.server.security.reloaded_files import ReloadedFiles, UnusableFileError, read_file


class Number:
    """A number in a file, which is read by looking twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads = 0
        path.write_text("1")
        self.files = ReloadedFiles("numbers", [path], self._read)

    def _read(self) -> int:
        self.reads += 1
        text = read_file(self.path, "number").decode()
        if not text.isdecimal():
            raise UnusableFileError(f"{text!r} is no number")
        return int(text)

    def looks(self, count: int = 1) -> int:
        for _ in range(count):
            self.files.look()
        return self.files.current


@pytest.fixture
def number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Number:
    caplog.set_level(logging.INFO)
    return Number(tmp_path / "number")


def test_a_file_is_read_again_when_it_has_settled(number: Number, caplog: pytest.LogCaptureFixture) -> None:
    assert number.looks(5) == 1
    assert number.reads == 1
    number.path.write_text("22")
    assert number.looks() == 1
    assert number.looks() == 22
    assert number.looks(5) == 22
    assert number.reads == 2
    assert caplog.messages == ["the numbers have been read again"]


def test_a_file_that_goes_on_changing_is_left_alone(number: Number) -> None:
    text = "2"
    for _ in range(10):
        text += "2"
        number.path.write_text(text)
        assert number.looks() == 1
    assert number.reads == 1
    assert number.looks() == int(text)


def test_what_cannot_be_used_is_told_once_and_what_there_was_stays(
    number: Number, caplog: pytest.LogCaptureFixture
) -> None:
    number.path.write_text("nonsense")
    assert number.looks(6) == 1
    assert caplog.messages == ["the numbers stay as they were: 'nonsense' is no number"]
    number.path.unlink()
    assert number.looks(6) == 1
    assert "No such file or directory" in caplog.messages[1]
    number.path.write_text("333")
    assert number.looks(2) == 333
    assert len(caplog.messages) == 3


def test_a_file_is_replaced_through_a_link(number: Number, tmp_path: Path) -> None:
    """As Kubernetes replaces what it has mounted."""
    for name, text in (("a", "10"), ("b", "20")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "number").write_text(text)
    number.path.unlink()
    (tmp_path / "current").symlink_to("a")
    number.path.symlink_to("current/number")
    assert number.looks(2) == 10
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").rename(tmp_path / "current")
    assert number.looks(2) == 20


def test_it_tells_of_what_is_new_on_its_thread(number: Number) -> None:
    told = threading.Event()
    seen: list[int] = []

    def changed() -> None:
        seen.append(number.files.current)
        told.set()

    number.files.start(changed)
    number.path.write_text("4444")
    assert told.wait(60)
    number.files.stop()
    assert seen == [4444]


def test_what_cannot_be_used_at_the_start_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(UnusableFileError, match=rf"the number in {missing} cannot be read: No such file or directory"):
        ReloadedFiles("numbers", [missing], lambda: read_file(missing, "number"))
