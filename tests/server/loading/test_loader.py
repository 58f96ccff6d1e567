"""A model is loaded after its trial, or with what an earlier trial has found."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import openvino as ov
import pytest

from headrace.server.core.specs import ModelSpec
from headrace.server.engine import blobs
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import InputOptions
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.engine.trial.messages import TrialRequest
from headrace.server.loading import trial_process
from headrace.server.loading.cache import Cache
from headrace.server.loading.identity import identity
from headrace.server.loading.loader import Loader
from headrace.server.loading.trial_process import TrialProcess
from headrace.server.repository.files import digest, model_files
from headrace.server.repository.named import NamedModel
from headrace.wire.errors import FailedPrecondition, NotFound, Unavailable
from tests import bad_models, models
from tests.server.engine.test_findings import FINDINGS
from tests.waiting import until

F32 = Compilation(properties={"INFERENCE_PRECISION_HINT": "f32"})


class House:
    """An engine and its loader; `trials` counts the processes that were started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path | None = None, seconds: float = 60.0) -> None:
        self.trials = 0
        self.engine = OpenVinoEngine()
        self.loader = Loader(self.engine, nullcontext, seconds, Cache(cache) if cache is not None else None)
        start = TrialProcess.__init__

        def counted(process: TrialProcess) -> None:
            self.trials += 1
            start(process)

        monkeypatch.setattr(TrialProcess, "__init__", counted)

    def load(self, path: Path) -> ModelSpec:
        return self.loader.load(NamedModel("m", "1", path, F32))


def test_without_a_cache_each_load_is_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    house = House(monkeypatch)
    path = models.add_multiply(tmp_path)
    specs = [house.load(path) for _ in range(2)]
    assert house.trials == 2
    assert all(spec.direct for spec in specs)
    assert "loaded model 'm' version 1 (runs directly, batches of up to" in caplog.text
    assert "tried in" in caplog.text
    house.engine.close()


def test_with_a_cache_a_model_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = models.add_multiply(tmp_path)
    found = [House(monkeypatch, tmp_path / "cache") for _ in range(2)]
    first, second = (house.load(path) for house in found)
    assert found[0].trials == 1  # the second one's trial would count here too
    assert (first.direct, first.batch, first.batch_reason) == (second.direct, second.batch, second.batch_reason)
    assert "its trial is known" in caplog.text
    for house in found:
        house.engine.close()


def test_with_a_cache_a_model_is_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, cache = models.add_multiply(tmp_path), tmp_path / "cache"
    first, second = (House(monkeypatch, cache) for _ in range(2))
    monkeypatch.setattr(blobs, "is_worth_it", lambda *_: True)
    spec = first.load(path)
    (file,) = cache.glob("*.blob")
    content = file.read_bytes()

    def not_again(*_: object) -> None:
        raise AssertionError("it is compiled again")

    with monkeypatch.context() as patched:
        patched.setattr(ov.Core, "compile_model", not_again)
        assert second.load(path) == spec
    file.write_bytes(content[:-1])
    assert House(monkeypatch, cache).load(path) == spec  # damaged: it is compiled, and kept again
    assert file.read_bytes() == content
    assert not caplog.records
    for house in (first, second):
        house.engine.close()


def test_the_process_of_the_next_trial_gets_ready_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    path = models.scale(tmp_path)
    named = NamedModel("m", "1", path, F32)
    house.loader.load(named, more=True)
    assert house.trials == 2  # one of them waits
    house.loader.load(named, more=True)
    assert house.trials == 3
    spare = house.loader._spare
    assert spare is not None
    house.loader.discard_spare()
    assert spare._process.returncode == -signal.SIGKILL
    house.loader.discard_spare()
    house.engine.close()


def test_a_process_for_a_trial_that_is_not_needed_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(monkeypatch, tmp_path / "cache")
    new, known = models.scale(tmp_path), models.add_multiply(tmp_path)
    house.load(known)
    house.loader.load(NamedModel("new", "1", new, F32), more=True)
    spare = house.loader._spare
    assert spare is not None
    house.load(known)
    assert house.loader._spare is None
    assert spare._process.returncode == -signal.SIGKILL
    house.engine.close()


def test_a_model_is_loaded_although_no_process_can_be_started_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(monkeypatch)
    run = TrialProcess.run

    def run_last(process: TrialProcess, request: TrialRequest, seconds: float) -> object:
        monkeypatch.setattr(trial_process, "COMMAND", (str(tmp_path / "none"),))
        return run(process, request, seconds)

    monkeypatch.setattr(TrialProcess, "run", run_last)
    spec = house.loader.load(NamedModel("m", "1", models.scale(tmp_path), F32), more=True)
    assert spec.name == "m"
    with pytest.raises(FailedPrecondition, match=r"model 'm' cannot be tried: .* No such file or directory"):
        house.load(models.scale(tmp_path))
    house.engine.close()


def test_models_are_loaded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, tmp_path / "cache")
    path = models.scale(tmp_path)
    house.load(path)  # the others need no trial
    loading = 0
    most = 0

    @contextmanager
    def counted() -> Iterator[None]:
        nonlocal loading, most
        loading += 1
        most = max(most, loading)
        yield
        loading -= 1

    monkeypatch.setattr(house.loader, "_loading", counted)
    with ThreadPoolExecutor(8) as threads:
        specs = list(threads.map(house.load, [path] * 8))
    assert len({id(spec) for spec in specs}) == 8
    assert most == 1
    house.engine.close()


def test_a_process_that_cannot_be_started_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_process, "COMMAND", (str(tmp_path / "none"),))
    house = House(monkeypatch)
    with pytest.raises(FailedPrecondition, match=r"model 'm' cannot be tried: .* No such file or directory"):
        house.load(models.scale(tmp_path))


def test_what_is_kept_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, tmp_path / "cache")
    path = models.add_multiply(tmp_path)
    key = identity(digest(model_files(path)), F32, house.engine.runtime_version)
    Cache(tmp_path / "cache").add(key, replace(FINDINGS, direct=False, direct_reason="kept", batch=3))
    spec = house.load(path)
    assert (spec.direct, spec.direct_reason, spec.batch, house.trials) == (False, "kept", 3, 0)
    house.engine.close()


def test_everything_that_decides_is_in_the_key(tmp_path: Path) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"device": "AUTO"},
        {"run": "async"},
        {"hint": "latency"},
        {"properties": {}},
        {"slots": 3},
        {"batch": 8},
    ]
    keys = [identity("files", replace(F32, **change), "runtime") for change in changes]  # type: ignore[arg-type]
    keys += [identity("others", F32, "runtime"), identity("files", F32, "another")]
    assert len(set(keys)) == len(keys)
    assert identity("files", F32, "runtime") == keys[0]
    # How it shares the processor with others changes nothing that is found about it.
    assert identity("files", replace(F32, weight=5, priority=2), "runtime") == keys[0]


def test_a_model_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, tmp_path / "cache")
    path = bad_models.ctc_loss(tmp_path)
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="CTCLoss"):
            house.load(path)
    assert house.trials == 2
    assert house.engine._models == {}


def test_a_model_whose_files_change_meanwhile_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither during its trial, nor while this process reads it: its findings may not be those of the new file."""
    house = House(monkeypatch, tmp_path / "cache")
    path = models.add_multiply(tmp_path)
    run = TrialProcess.run

    def touch_first(process: TrialProcess, request: TrialRequest, seconds: float) -> object:
        path.touch()
        return run(process, request, seconds)

    with monkeypatch.context() as patched:
        patched.setattr(TrialProcess, "run", touch_first)
        with pytest.raises(FailedPrecondition, match="its files changed meanwhile; load it again"):
            house.load(path)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["lock"]
    load = house.engine.load

    def touch_after(*arguments: object, **options: object) -> ModelSpec:
        spec = load(*arguments, **options)  # type: ignore[arg-type]
        path.touch()
        return spec

    with monkeypatch.context() as patched:
        patched.setattr(house.engine, "load", touch_after)
        with pytest.raises(FailedPrecondition, match="its files changed meanwhile; load it again"):
            house.load(path)
    assert house.engine._models == {}
    assert not [*(tmp_path / "cache").glob("*.blob"), *(tmp_path / "cache").glob("*.new")]
    assert house.load(path).direct
    house.engine.close()


def test_a_missing_file_needs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    for name in ("none.xml", "none.onnx"):
        with pytest.raises(NotFound, match="does not exist"):
            house.load(tmp_path / name)
    with pytest.raises(FailedPrecondition, match="cannot be read from"):
        house.load(tmp_path)  # a folder
    assert house.engine._models == {}


def test_models_are_tried_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    path = models.scale(tmp_path)
    running, most = 0, 0
    run, lock = TrialProcess.run, threading.Lock()

    def counted(process: TrialProcess, request: TrialRequest, seconds: float) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return run(process, request, seconds)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(TrialProcess, "run", counted)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(house.load, [path] * 3))
    assert (house.trials, most) == (3, 1)
    house.engine.close()


def test_closing_ends_the_trial_and_those_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, tmp_path / "cache", seconds=float("inf"))
    path = bad_models.endless(tmp_path)
    with ThreadPoolExecutor(2) as threads:
        loads = [threads.submit(house.load, path) for _ in range(2)]
        until(lambda: "trying" in repr(house.loader))
        house.loader.close()
        for load in loads:
            with pytest.raises(Unavailable, match="model 'm' was not loaded: the server is stopping"):
                load.result(20)
    assert house.trials == 1
    assert repr(house.loader) == "<Loader closed>"


def test_the_fingerprint_is_that_of_the_contents_wherever_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache or without one: clients compare what two servers say."""
    folders = [tmp_path / name for name in ("here", "other")]
    for folder in folders:
        folder.mkdir()
    house, cached = House(monkeypatch), House(monkeypatch, tmp_path / "cache")
    here = house.load(models.plus(folders[0], 1))
    there = cached.load(shutil.copytree(folders[0], tmp_path / "there") / "model.xml")
    other = house.load(models.plus(folders[1], 2))
    doubled = Compilation(properties=F32.properties, inputs={"*": InputOptions(scale=(0.5,))})
    scaled = house.loader.load(NamedModel("m", "1", folders[0] / "model.xml", doubled))
    assert here.fingerprint == there.fingerprint
    assert len({0, *(each.fingerprint for each in (here, other, scaled))}) == 4
    for each in (house, cached):
        each.engine.close()
