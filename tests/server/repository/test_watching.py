"""Changes on disk are told of once they have settled."""

from __future__ import annotations

import itertools
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from time import monotonic

import pytest

from headrace.server.repository import watching
from headrace.server.repository.scan import Disk, FoundModel, Scan
from headrace.server.repository.source import ModelSource, SourceError
from headrace.server.repository.watching import Changes, Settling, Watcher


def plain(name: str, folder: Path) -> ModelSource:
    return ModelSource(name, folder)


def model(name: str, problem: str = "") -> FoundModel:
    return FoundModel(name, problem=SourceError(problem) if problem else None)


class Looks:
    def __init__(self, *models: FoundModel) -> None:
        self._number = 1
        self.settling = Settling(self._scan(models))

    def _scan(self, models: tuple[FoundModel, ...]) -> Scan:
        return Scan(self._number, {model.name: model for model in models})

    def sees(self, *models: FoundModel) -> tuple[list[str], list[str], bool]:
        """What is told: the models that have changed, those that have gone, and whether everything has settled."""
        self._number += 1
        changes = self.settling.next(self._scan(models))
        assert changes.number == self._number
        return sorted(each.name for each in changes.models), sorted(changes.removed), self.settling.settled


def test_what_is_known_and_stays_is_not_told() -> None:
    looks = Looks(model("a"), model("b", "wrong"))
    assert looks.sees(model("a"), model("b", "wrong")) == ([], [], True)


def test_a_change_is_told_once_when_it_is_seen_twice() -> None:
    looks = Looks(model("a"))
    assert looks.sees(model("a", "1"), model("new")) == ([], [], False)
    assert looks.sees(model("a", "2"), model("new")) == (["new"], [], False)
    assert looks.sees(model("a", "2"), model("new")) == (["a"], [], True)
    assert looks.sees(model("a", "2"), model("new")) == ([], [], True)


def test_what_comes_back_before_it_has_settled_has_not_changed() -> None:
    looks = Looks(model("a"), model("b"))
    assert looks.sees(model("a", "1")) == ([], [], False)
    assert looks.sees(model("a"), model("b")) == ([], [], False)
    assert looks.sees(model("a"), model("b")) == ([], [], True)


def test_what_has_gone_twice_is_told_once() -> None:
    looks = Looks(model("a"), model("b"))
    assert looks.sees(model("b")) == ([], [], False)
    assert looks.sees(model("b")) == ([], ["a"], True)
    assert looks.sees(model("b")) == ([], [], True)


def test_one_that_never_settles_does_not_hold_up_the_others() -> None:
    looks = Looks()
    told: list[str] = []
    for number in range(6):
        models = [model("busy", str(number)), *([model("quiet")] if number >= 2 else [])]
        told += looks.sees(*models)[0]
    assert told == ["quiet"]


class Told:
    def __init__(self, disk: Disk) -> None:
        self.changes: queue.Queue[Changes] = queue.Queue()
        self.watcher = Watcher(disk, disk.scan(), self.changes.put)
        self.watcher.start()

    def next(self) -> tuple[list[str], list[str]]:
        changes = self.changes.get(timeout=20)
        return [each.name for each in changes.models], list(changes.removed)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "model.onnx").write_text("a")
    return folder


@pytest.fixture
def told(repository: Path) -> Iterator[Told]:
    told = Told(Disk([], [repository], plain))
    yield told
    told.watcher.stop()


def test_changes_of_a_repository_are_told(told: Told, repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "a", repository / "b" / "1")
    assert told.next() == (["b"], [])
    (repository / "b" / "1" / "model.onnx").write_text("changed")
    assert told.next() == (["b"], [])
    shutil.rmtree(repository / "a")
    assert told.next() == ([], ["a"])
    repository.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere" / "b", tmp_path / "elsewhere" / "c")
    (tmp_path / "elsewhere").rename(repository)
    assert told.next() == (["c"], [])


def test_a_link_that_is_switched_is_noticed(told: Told, repository: Path, tmp_path: Path) -> None:
    """What it leads to lies elsewhere in the repository, or the link was to a folder that goes."""
    for name in (".one", ".two"):
        shutil.copytree(repository / "a", repository / name)
    (repository / "linked").symlink_to(".one")
    assert told.next() == (["linked"], [])
    (repository / "new").symlink_to(".two")
    (repository / "new").replace(repository / "linked")
    assert told.next() == (["linked"], [])


def test_a_file_of_the_command_line_is_watched_through_renames(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("1")
    told = Told(Disk([ModelSource("m", path)], [], plain))
    for number in range(3):
        (tmp_path / "new").write_text(str(number))
        (tmp_path / "new").replace(path)
        assert told.next() == (["m"], [])
    path.unlink()
    assert told.next() == (["m"], [])
    told.watcher.stop()


def test_a_watcher_goes_on_after_an_error(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing = [True]

    def configure(name: str, folder: Path) -> ModelSource:
        if name == "b" and failing:
            failing.pop()
            raise ZeroDivisionError
        return plain(name, folder)

    told = Told(Disk([], [repository], configure))
    shutil.copytree(repository / "a", repository / "b")
    assert told.next() == (["b"], [])
    assert "changes on disk could not be followed" in caplog.text
    told.watcher.stop()


class BusyDisk(Disk):
    """A repository that takes a while to look at, and where something has changed each time."""

    def __init__(self) -> None:
        super().__init__([], [], plain)
        self.looks: list[tuple[float, float]] = []
        self.enough = threading.Event()

    def scan(self) -> Scan:
        began = monotonic()
        time.sleep(0.05)
        self.looks.append((began, monotonic()))
        if len(self.looks) == 5:
            self.enough.set()
        return Scan(len(self.looks), {"m": model("m", str(began))})


def test_what_never_settles_does_not_take_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 0.0)
    disk = BusyDisk()
    watcher = Watcher(disk, disk.scan(), lambda _: None)
    watcher.start()
    assert disk.enough.wait(20)
    watcher.stop()
    for (began, ended), (later, _) in itertools.pairwise(disk.looks[1:]):
        assert later - began > (ended - began) / watching.MAX_BUSY_SHARE * 0.99


def test_a_watcher_that_is_stopped_does_not_complain(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The end of the server cancels what it applies."""

    def apply(_: Changes) -> None:
        watcher.stop()
        raise CancelledError

    disk = Disk([], [repository], plain)
    known = disk.scan()
    shutil.copytree(repository / "a", repository / "b")
    watcher = Watcher(disk, known, apply)
    watcher._watch()
    assert not caplog.records
