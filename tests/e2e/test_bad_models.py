"""Models that harm the process that reads, compiles or runs them end nothing but their own trial."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.client import blocking
from headrace.oip import open_inference_pb2 as oip
from tests import bad_models, models
from tests.child_processes import children, command_line
from tests.e2e.operating import Operator
from tests.e2e.serving import Serve, Served, run_server
from tests.e2e.test_control import replace
from tests.packaged_models import packaged
from tests.stopwatch import Stopwatch
from tests.waiting import until

CORRUPTIONS = int(os.environ.get("HEADRACE_CORRUPTIONS", "24"))
"""Damaged files of each format."""
F32 = "--property=INFERENCE_PRECISION_HINT=f32"
TOLD = "FAILED_PRECONDITION: model 'bad' could not be loaded: see the server's log"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


class Live:
    """A server of a good model and of one whose file goes bad, and whoever loads that one again."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.operator = Operator(served.address)

    def load(self) -> str | None:
        """What is said of the load that fails; None for one that does not."""
        try:
            self.operator.load("bad")
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return None

    def answers(self) -> None:
        with blocking.connect(self.served.address) as server:
            assert server.infer("good", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.0]

    def sentences(self) -> list[str]:
        """What the log says to the operator about loads that have failed."""
        return re.findall(r"WARNING headrace.server.lifecycle.lifecycle: (.*)", self.served.log)


def live(serve: Serve, path: Path, good: Path, *arguments: str) -> Live:
    return Live(serve(f"bad={path}", f"good={good}", "--model-control", *arguments))


@pytest.mark.timeout(300 + 10 * CORRUPTIONS)
@pytest.mark.parametrize("kind", ["ir", "weights", "onnx", "real onnx"])
def test_corrupt_files_end_nothing(serve: Serve, folder: Path, tmp_path: Path, kind: str) -> None:
    """The server lives, serves the model as it was, tells clients nothing, and the operator one sentence each."""
    if kind == "real onnx":
        path = Path(shutil.copy(packaged("silero_vad", "data", "silero_vad_openvino_16k.onnx"), folder))
    else:
        path = models.onnx_add(folder) if kind == "onnx" else models.slow(folder, steps=1)
    file = path.with_suffix(".bin") if kind == "weights" else path
    whole = file.read_bytes()
    house = live(serve, path, models.scale(tmp_path), "--load-timeout=10")
    failed = 0
    for content in bad_models.corruptions(whole, CORRUPTIONS, seed=len(kind)):
        replace(file, content)
        told = house.load()
        assert told in (None, TOLD)
        failed += told is not None
        house.answers()
    sentences = house.sentences()
    assert failed
    for sentence in sentences:
        assert sentence.startswith("model 'bad' ")
        assert len(sentence) < 2000
    replace(file, whole)
    assert house.load() is None
    house.served.process.terminate()
    house.served.process.wait(30)
    left_out = re.findall(r"(\d+) more of these were left out within 60 s: model 'bad' ", house.served.log)
    assert len(sentences) + sum(map(int, left_out)) == failed  # more than a hundred a minute are counted
    assert "Traceback" not in house.served.log


def test_models_that_end_the_runtime_are_not_loaded_into_a_live_server(
    serve: Serve, folder: Path, tmp_path: Path
) -> None:
    harmless = models.onnx_add(folder).rename(folder / "bad.onnx")
    good = models.scale(tmp_path)
    assert live(serve, harmless, good).served.stop() == 0  # from now on, both trials are known
    house = live(serve, harmless, good, "--load-timeout=10")
    replace(harmless, bad_models.endless(tmp_path).read_bytes())
    assert house.load() == TOLD
    house.answers()
    assert house.sentences() == [
        f"model 'bad' from '{harmless}' takes longer than --load-timeout, 10 s: the model is read"
    ]
    index = house.operator.index()
    assert index == [("bad", "1", "READY", TOLD.partition(": ")[2]), ("good", "1", "READY", "")]
    assert "Traceback" not in house.served.log


@pytest.mark.parametrize(
    ("build", "seconds", "why"), [(bad_models.ctc_loss, 60, "CTCLoss"), (bad_models.endless, 5, "--load-timeout, 5 s")]
)
def test_such_a_model_at_start_is_one_sentence(
    serve: Serve, tmp_path: Path, build: Callable[[Path], Path], seconds: int, why: str
) -> None:
    good = f"good={models.scale(tmp_path)}"
    assert serve(good).stop() == 0  # from now on, its trial is known
    ended = run_server(good, f"bad={build(tmp_path)}", F32, f"--load-timeout={seconds}", "--log-level=error")
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("headrace-server: model 'bad' ")
    assert why in ended.stderr
    assert ended.stdout == ""


def test_weights_of_four_bits_are_served_or_refused(serve: Serve, folder: Path, tmp_path: Path) -> None:
    """Some versions of the runtime divide by zero with five rows or more, on some processors."""
    path = models.scale(folder)
    house = live(serve, path, models.scale(tmp_path))
    four_bit = bad_models.four_bit(tmp_path)
    replace(path.with_suffix(".bin"), four_bit.with_suffix(".bin").read_bytes())
    replace(path, four_bit.read_bytes())
    told = house.load()
    if told is not None:
        assert told == TOLD
        assert all("SIGFPE" in sentence for sentence in house.sentences())
    else:
        with blocking.connect(house.served.address) as server:
            for rows in (1, 4, 5, 64, 200):
                assert server.infer("bad", {"x": np.ones((rows, 64), np.float32)})["y"].shape == (rows, 64)
    house.answers()


def trials(served: Served) -> list[int]:
    return [child for child in children(served.process.pid) if b"engine.trial" in command_line(child)]


def the_child(served: Served) -> int:
    """The process that tries a model, when there is one."""
    return until(lambda: trials(served), lambda: "no model is tried")[0]


@pytest.fixture
def reading(serve: Serve, folder: Path, tmp_path: Path) -> Iterator[tuple[Live, threading.Thread, list[str]]]:
    """A live server that tries a model that is read for ever, and what the client that asked for it is told."""
    path = models.onnx_add(folder).rename(folder / "bad.onnx")
    house = live(serve, path, models.scale(tmp_path))
    replace(path, bad_models.endless(tmp_path).read_bytes())
    told: list[str] = []

    def load() -> None:
        try:
            request = oip.RepositoryModelLoadRequest(model_name="bad")
            house.operator.stub.RepositoryModelLoad(request, timeout=240)
        except grpc.RpcError as error:
            told.append(f"{error.code().name}: {error.details()}")

    thread = threading.Thread(target=load)
    thread.start()
    yield house, thread, told
    thread.join()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_trial_that_a_signal_ends(reading: tuple[Live, threading.Thread, list[str]], number: signal.Signals) -> None:
    house, thread, told = reading
    os.kill(the_child(house.served), number)
    thread.join(30)
    assert told == [TOLD]
    house.answers()
    (sentence,) = house.sentences()
    assert f"ends the process that tries it ({number.name})" in sentence


def test_a_server_that_stops_ends_the_trial(
    reading: tuple[Live, threading.Thread, list[str]], stopwatch: Stopwatch
) -> None:
    house, thread, told = reading
    child = the_child(house.served)
    stopwatch.start()
    assert house.served.stop() == 0
    assert stopwatch.ran() < 2
    thread.join(30)
    assert told[0].startswith("UNAVAILABLE: ")
    until(lambda: not Path(f"/proc/{child}").exists())
    assert "Traceback" not in house.served.log


def test_a_signal_during_the_start_ends_the_trial(tmp_path: Path) -> None:
    served = Served([str(bad_models.endless(tmp_path))], tmp_path / "log")
    try:
        child = the_child(served)
        assert served.stop() == 128 + signal.SIGTERM
        until(lambda: not Path(f"/proc/{child}/stat").exists())
    finally:
        served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()


def decision(model: hc.Model) -> tuple[bool, str, int, str]:
    return model.direct, model.direct_reason, model.batch, model.batch_reason


def test_a_second_start_decides_the_same_without_a_trial(serve: Serve, tmp_path: Path) -> None:
    arguments = [str(models.add_multiply(tmp_path)), str(models.slow(tmp_path, 1)), f"--cache-dir={tmp_path / 'cache'}"]
    first, second = serve(*arguments), serve(*arguments)
    assert first.log.count("tried in") == 2
    assert second.log.count("its trial is known") == 2
    decided = []
    for served in (first, second):
        with blocking.connect(served.address) as server:
            decided.append(
                [(each.direct, each.direct_reason, each.batch, each.batch_reason) for each in server.models()]
            )
    assert decided[0] == decided[1]
    (quick, slow) = decided[0]
    assert quick[:2] == (True, "")
    assert slow[0] is False
    assert slow[1].startswith("a run takes")


def test_servers_that_start_together_decide_the_same(tmp_path: Path) -> None:
    """Of one folder, on a machine that is made busy by them."""
    paths = [models.add_multiply(tmp_path), models.scale(tmp_path), models.slow(tmp_path, 1)]
    arguments = [*map(str, paths), f"--cache-dir={tmp_path / 'cache'}", F32]
    servers = [Served(arguments, tmp_path / f"log-{number}") for number in range(3)]
    decided = []
    for served in servers:
        with served, blocking.connect(served.address) as server:
            decided.append(
                [(each.direct, each.direct_reason, each.batch, each.batch_reason) for each in server.models()]
            )
    assert decided[0] == decided[1] == decided[2]
    assert sum((tmp_path / f"log-{number}").read_text().count("tried in") for number in range(3)) >= 3


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_server(str(models.scale(tmp_path)), f"--cache-dir={tmp_path / 'file' / 'cache'}")
    assert ended.returncode == 2
    assert ended.stderr.startswith("headrace-server: --cache-dir ")
    assert "Not a directory" in ended.stderr
    assert ended.stderr.count("\n") == 1
