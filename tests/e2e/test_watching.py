"""Versions that come, go and break on disk, while clients ask all the time."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import headrace.client as hc
from tests import models
from tests.e2e.live import Live, X, version


def slowly(source: Path, target: Path, seconds: float) -> None:
    """Copy a folder as an upload does: bit by bit."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        content = file.read_bytes()
        with (target / file.name).open("wb", buffering=0) as out:
            for begin in range(0, len(content), max(1, len(content) // 8)):
                out.write(content[begin : begin + max(1, len(content) // 8)])
                time.sleep(seconds / 16)


class Asking:
    """Asks for a model all the time by both protocols. `answers` are the versions; an error or a wrong one ends it."""

    def __init__(self, house: Live, name: str) -> None:
        self.answers: list[str] = []
        self._end = threading.Event()
        self._threads = ThreadPoolExecutor(1)
        self._use = self._threads.submit(self._ask, house, name)

    def _ask(self, house: Live, name: str) -> None:
        while not self._end.is_set():
            number, plus = house.ask_oip(name)
            assert int(number) == plus
            native = house.ask_native(name)
            later, _ = house.ask_oip(name)
            assert native in (int(number), int(later))
            self.answers.append(number)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._use.result(30)
        self._threads.shutdown()


def test_the_disk_is_followed_without_a_gap(live: Callable[..., Live], repository: Path, tmp_path: Path) -> None:
    version(repository, "m", 1)
    version(repository, "leaving", 1)
    house = live(f"--repository={repository}", "--watch")
    with Asking(house, "m") as asking:
        # A version that is written slowly is loaded when it is complete, and never tried before.
        slowly(version(tmp_path, "new", 2), repository / "m" / "2", 2.0)
        house.until(lambda: house.index().get("m/2") == "READY")
        assert house.index()["m/1"] == "UNAVAILABLE: not served, only the newest version"
        assert "could not be loaded" not in house.served.log
        # Broken ones, one after another, change nothing.
        broken = repository / "m" / "3"
        broken.mkdir()
        for content in ("this is no model", "<net/>"):
            (broken / "model.xml").write_text(content)
            count = house.served.log.count("cannot be read")
            house.until(lambda count=count: house.served.log.count("cannot be read") > count)  # type: ignore[misc]  # a lambda with a default
            told = "UNAVAILABLE: model 'm' version 3 could not be loaded: see the server's log"
            assert house.index()["m/3"] == told
        # It is mended.
        (tmp_path / "mended").mkdir()
        models.plus(tmp_path / "mended", 3)
        for file in ("model.bin", "model.xml"):
            (tmp_path / "mended" / file).replace(broken / file)
        house.until(lambda: house.index().get("m/3") == "READY")
        # It vanishes: the one before serves again.
        shutil.rmtree(broken)
        house.until(lambda: house.index().get("m/2") == "READY" and "m/3" not in house.index())
        # New and renamed models appear, others go.
        version(repository, "late", 1)
        (repository / "leaving").rename(repository / "renamed")
        house.until(lambda: {"late/1", "renamed/1"} <= house.index().keys() and "leaving/1" not in house.index())
        house.until(lambda: {*house.index().values()} <= {"READY", "UNAVAILABLE: not served, only the newest version"})
        assert house.ask("renamed") == ("1", 1)
        with pytest.raises(hc.NotFound, match="there is no model 'leaving'"):
            house.client.infer("leaving", {"x": X})
        # The whole repository is gone for a while, like a volume that is mounted anew.
        repository.rename(tmp_path / "elsewhere")
        house.served.wait_until_logged("what was loaded from it stays")
        assert house.ask("late") == ("1", 1)
        (tmp_path / "elsewhere").rename(repository)
        version(repository, "m", 4)
        house.until(lambda: house.index().get("m/4") == "READY" and asking.answers[-1] == "4")
    assert [
        number for number, before in zip(asking.answers, ["", *asking.answers], strict=False) if number != before
    ] == [*"12324"]
    assert "Traceback" not in house.served.log


def test_a_model_of_the_command_line_is_watched(live: Callable[..., Live], tmp_path: Path) -> None:
    """A file that is replaced by renaming, again and again, and is missing for a while."""
    (tmp_path / "served").mkdir()
    path = models.plus(tmp_path / "served", 1)
    house = live(f"m={path}", "--watch")
    for number in (2, 3):
        (tmp_path / str(number)).mkdir()
        new = models.plus(tmp_path / str(number), number)
        for suffix in (".bin", ".xml"):
            new.with_suffix(suffix).replace(path.with_suffix(suffix))
        house.until(lambda number=number: house.ask("m")[1] == number)  # type: ignore[misc]  # a lambda with a default
    path.rename(tmp_path / "away")
    house.until(lambda: house.index() == {"m/1": "READY: model 'm' could not be loaded: its file is missing"})
    assert house.ask("m") == ("1", 3)
    (tmp_path / "away").rename(path)
    house.until(lambda: house.index() == {"m/1": "READY"})
