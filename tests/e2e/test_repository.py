"""Models from folders and repositories: versions that come, go, break and serve, and nobody gets a wrong answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.client import blocking
from headrace.oip import open_inference_pb2 as oip
from tests import models
from tests.e2e.conftest import F32, Serve
from tests.e2e.operating import NOT_SERVING, SERVING, Operator, refused
from tests.e2e.serving import Served, run_server
from tests.e2e.test_command import COMMAND

RELOADS = int(os.environ.get("HEADRACE_RELOADS", "30"))
"""Reloads under load; `make test-reloads` does 300."""
MIB = 1 << 20
X = np.array([1, 10], np.float32)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def version(repository: Path, name: str, number: int, plus: float | None = None) -> Path:
    """A folder with the version: x + its number, unless something else is to be added."""
    folder = repository / name / str(number)
    folder.mkdir(parents=True)
    models.plus(folder, number if plus is None else plus)
    return folder


class Live:
    """A server and its clients of both protocols."""

    def __init__(self, served: Served) -> None:
        self.served, self.operator = served, Operator(served.address)
        self.client = blocking.connect(served.address)

    def ask(self, name: str, version: str = "") -> tuple[str, float]:
        """The version that answers, and what it adds: the same by both protocols."""
        number, plus = self.ask_oip(name, version)
        native = self.ask_native(name, version)
        if native != plus:  # a new version may have taken over in between
            number, plus = self.ask_oip(name, version)
            assert native == plus
        return number, plus

    def ask_oip(self, name: str, version: str = "") -> tuple[str, float]:
        tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=X.shape)
        request = oip.ModelInferRequest(
            model_name=name, model_version=version, inputs=[tensor], raw_input_contents=[X.tobytes()]
        )
        response = self.operator.stub.ModelInfer(request, timeout=20)
        (plus,) = {*(np.frombuffer(response.raw_output_contents[0], np.float32) - X).tolist()}
        return response.model_version, plus

    def ask_native(self, name: str, version: str = "") -> float:
        (plus,) = {*(self.client.infer(name, {"x": X}, version=version or None)["y"] - X).tolist()}
        assert isinstance(plus, float)
        return plus

    def index(self) -> dict[str, str]:
        """The state of each version, with its reason if it has one."""
        return {
            f"{name}/{version}": ": ".join(filter(None, (state, reason)))
            for name, version, state, reason in self.operator.index()
        }

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not condition():
            assert time.monotonic() < deadline, f"{self.index()}\n{self.served.log}"
            time.sleep(0.05)

    def close(self) -> None:
        self.client.close()
        self.operator.channel.close()


@pytest.fixture
def live(serve: Serve) -> Iterator[Callable[..., Live]]:
    houses: list[Live] = []

    def start(*arguments: str) -> Live:
        houses.append(Live(serve(*arguments)))
        return houses[-1]

    yield start
    for house in houses:
        house.close()


def test_a_repository_is_served_by_name_and_version(live: Callable[..., Live], repository: Path) -> None:
    for number in (1, 2, 10):
        version(repository, "numbered", number)
    (repository / "plain").mkdir()
    models.plus(repository / "plain", 5)
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "model.onnx").write_text("this is no model")
    (repository / "empty").mkdir()
    (repository / "README.md").write_text("Models.")
    house = live(f"--repository={repository}")
    assert house.ask("numbered") == ("10", 10)
    assert house.ask("plain") == house.ask("plain", "1") == ("1", 5)
    only = "not served, only the newest version"
    assert house.index() == {
        "broken/1": "UNAVAILABLE: model 'broken' version 1 could not be loaded: see the server's log",
        "empty/": "UNAVAILABLE: model 'empty' could not be loaded: its folder has no model",
        "numbered/1": f"UNAVAILABLE: {only}",
        "numbered/2": f"UNAVAILABLE: {only}",
        "numbered/10": "READY",
        "plain/1": "READY",
    }
    with pytest.raises(hc.Unavailable, match="model 'numbered' version 2 is not served, only the newest version"):
        house.client.infer("numbered", {"x": X}, version="2")
    with pytest.raises(hc.NotFound, match="model 'numbered' has no version '02'; the newest are '10'"):
        house.client.infer("numbered", {"x": X}, version="02")
    assert f"model 'empty': folder '{repository}/empty' has no model" in house.served.log
    assert f"model 'broken' cannot be read from '{repository}/broken/1/model.onnx'" in house.served.log
    checks = {"": SERVING, "numbered": SERVING, "numbered/10": SERVING, "numbered/2": NOT_SERVING}
    checks |= {"broken": NOT_SERVING, "broken/1": NOT_SERVING, "empty": NOT_SERVING}
    assert {name: house.operator.check(name) for name in checks} == checks
    with refused(grpc.StatusCode.NOT_FOUND, "'numbered/3'"):
        house.operator.check("numbered/3")
    ready = {
        each: house.operator.stub.ModelReady(oip.ModelReadyRequest(name="numbered", version=each), timeout=5).ready
        for each in ("", "10", "2", "3")
    }
    assert ready == {"": True, "10": True, "2": False, "3": False}


def test_folders_are_models_of_the_command_line(live: Callable[..., Live], tmp_path: Path) -> None:
    """As a file, a folder with a model, a folder of versions, and as KServe mounts them."""
    for name, number in (("a", 1), ("b", 2), ("models", 3)):
        (tmp_path / name).mkdir()
        models.plus(tmp_path / name, number)
    version(tmp_path, "versions", 4)
    version(tmp_path, "versions", 7)
    paths = [tmp_path / "a" / "model.xml", tmp_path / "b" / "model.xml", tmp_path / "versions"]
    house = live(*map(str, paths), f"mounted={tmp_path / 'models'}")
    assert house.ask("a") == ("1", 1)
    assert house.ask("b") == ("1", 2)
    assert house.ask("versions") == ("7", 7)
    assert house.ask("mounted") == ("1", 3)


def test_a_model_of_the_command_line_that_fails_ends_the_start(tmp_path: Path, repository: Path) -> None:
    good = version(repository, "good", 1)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "model.onnx").write_text("this is no model")
    ended = run_server(f"--repository={repository}", str(bad), F32, "--log-level=error")
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"headrace-server: model 'bad' cannot be read from '{bad}/model.onnx'")
    shutil.rmtree(good)
    for arguments, why in (
        ([f"--repository={repository}"], "no model could be loaded"),
        ([f"--repository={tmp_path / 'none'}"], f"repository '{tmp_path}/none' cannot be read: No such file"),
        ([f"--repository={tmp_path}", str(bad)], "two models have the name 'bad'"),
    ):
        ended = run_server(*arguments, F32, "--log-level=error")
        assert ended.returncode == 3
        assert why in ended.stderr
    ended = run_server()
    assert ended.returncode == 2
    assert ended.stderr == "headrace-server: give a MODEL, a --repository, or a --config file with [models.NAME]\n"


def test_models_that_are_loaded_serve_before_the_server_is_ready(tmp_path: Path, repository: Path) -> None:
    version(repository, "a", 1)
    version(repository, "b", 1)
    served = Served(
        [f"--repository={repository}", "--port=0", "--host=unix:" + str(tmp_path / "s"), F32], tmp_path / "log"
    )
    house = None
    try:
        served.address = f"unix:{tmp_path / 's'}"
        house = Live(served)
        deadline = time.monotonic() + 40
        seen: set[tuple[bool, int]] = set()
        while time.monotonic() < deadline:
            try:
                ready = house.operator.stub.ServerReady(oip.ServerReadyRequest(), timeout=5).ready
                whole = house.operator.check("")
                states = [state for _, _, state, _ in house.operator.index()]  # maybe later than what was asked
            except grpc.RpcError:
                continue
            assert ready or whole == NOT_SERVING or states == ["READY"] * 2
            seen.add((ready, states.count("READY")))
            if states[:1] == ["READY"] and not ready:
                assert house.ask("a") == ("1", 1)
            if ready:
                break
        assert (True, 2) in seen
        assert served.ready().endswith("(2 models)\n")
    finally:
        if house is not None:
            house.close()
        served.__exit__(None, None, None)


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


@pytest.mark.timeout(180)
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


def test_models_are_controlled_from_the_command_line(live: Callable[..., Live], repository: Path) -> None:
    version(repository, "m", 1)
    house = live(f"--repository={repository}", "--model-control")

    def headrace(*arguments: str) -> str:
        ended = subprocess.run(
            [*COMMAND, "models", house.served.address, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return ended.stdout + ended.stderr

    assert "UNAVAILABLE" not in headrace()
    version(repository, "new", 3)
    assert headrace("--load", "new", "--unload", "m").splitlines()[-1].split() == ["m", "1", "UNAVAILABLE", "unloaded"]
    assert house.ask("new") == ("3", 3)
    with pytest.raises(hc.Unavailable, match="model 'm' version 1 has been unloaded"):
        house.client.infer("m", {"x": X}, version="1")
    assert headrace("--load", "nope") == "headrace: NOT_FOUND: there is no model 'nope'\n"
    assert headrace("--load", f"{repository}/m") == f"headrace: NOT_FOUND: there is no model '{repository}/m'\n"
    headrace("--load", "m")
    assert house.ask("m") == ("1", 1)


class User:
    """Asks by one of the two protocols until told to stop: each answer is one of the version that serves or served."""

    def __init__(self, address: str, number: int) -> None:
        self.answers = 0
        self._address, self._number = address, number

    def use(self, end: threading.Event) -> None:
        (self._use_oip if self._number % 2 else self._use_native)(end)

    def _use_oip(self, end: threading.Event) -> None:
        operator = Operator(self._address)
        with operator.channel:
            while not end.is_set():
                x = np.full(1 + self._number, self.answers % 1000, np.float32)
                tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
                request = oip.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[x.tobytes()])
                response = operator.stub.ModelInfer(request, timeout=30)
                plus = 1 + int(response.model_version) % 2
                assert response.raw_output_contents[0] == (x + plus).tobytes()
                self.answers += 1

    def _use_native(self, end: threading.Event) -> None:
        with blocking.connect(self._address) as server, server.stream() as stream:
            while not end.is_set():
                x = np.full(1 + self._number, self.answers % 1000, np.float32)
                for ticket in [stream.submit("m", {"x": x}) for _ in range(4)]:
                    plus = ticket.result(30)["y"] - x
                    assert plus.tolist() in ([1.0] * len(x), [2.0] * len(x))
                    self.answers += 1


@pytest.mark.timeout(120 + 4 * RELOADS)
def test_versions_alternate_under_load(live: Callable[..., Live], repository: Path, tmp_path: Path) -> None:
    """No answer is wrong, none is missing, and the memory of old versions is freed."""
    # Copies, so that each of the two is tried only once, before there is any load.
    two = [version(tmp_path, "two", number) for number in (1, 2)]
    shutil.copytree(two[0], repository / "m" / "2")
    house = live(f"--repository={repository}", "--model-control")
    shutil.copytree(two[1], repository / "m" / "3")
    shutil.rmtree(repository / "m" / "2")
    house.operator.load("m")
    end = threading.Event()
    users = [User(house.served.address, number) for number in range(20)]
    resident: list[int] = []
    with ThreadPoolExecutor(len(users)) as threads:
        uses = [threads.submit(user.use, end) for user in users]
        try:
            for number in range(4, RELOADS + 4):
                shutil.copytree(two[number % 2], repository / "m" / str(number))
                shutil.rmtree(repository / "m" / str(number - 1))
                house.operator.load("m")
                assert house.index() == {f"m/{number}": "READY"}
                resident.append(house.served.resident_bytes())
                assert not any(use.done() for use in uses)
        finally:
            end.set()
        for use in uses:
            use.result(60)
    assert min(user.answers for user in users) > RELOADS
    quarter = len(resident) // 4
    print(
        sum(user.answers for user in users),
        "answers, MiB:",
        [each // MIB for each in resident[:: max(1, RELOADS // 20)]],
    )
    assert max(resident[-quarter:]) < max(resident[quarter : 2 * quarter]) + 32 * MIB
    assert "Traceback" not in house.served.log
