"""Models from folders and repositories: which serve from the start, and which clients load."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as oip
from headrace.wire.errors import quote
from tests import models
from tests.e2e.live import Live, X, version
from tests.e2e.operating import NOT_SERVING, SERVING, refused
from tests.e2e.serving import F32, Served, run_server
from tests.e2e.test_command import COMMAND


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
        each: house.operator.stub.ModelReady(oip.ModelReadyRequest(name="numbered", version=each), timeout=30).ready
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
                ready = house.operator.stub.ServerReady(oip.ServerReadyRequest(), timeout=30).ready
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


def test_models_are_controlled_from_the_command_line(live: Callable[..., Live], repository: Path) -> None:
    version(repository, "m", 1)
    house = live(f"--repository={repository}", "--model-control")

    def headrace(*arguments: str) -> str:
        ended = subprocess.run(
            [*COMMAND, "models", house.served.address, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return ended.stdout + ended.stderr

    assert "UNAVAILABLE" not in headrace()
    version(repository, "new", 3)
    assert headrace("--load", "new", "--unload", "m").splitlines()[-1].split() == ["m", "1", "UNAVAILABLE", "unloaded"]
    assert house.ask("new") == ("3", 3)
    with pytest.raises(hc.Unavailable, match="model 'm' version 1 has been unloaded"):
        house.client.infer("m", {"x": X}, version="1")
    for name in ("nope", f"{repository}/m"):
        there = "there are 'm', 'new'"
        assert headrace("--load", name) == f"headrace: NOT_FOUND: there is no model {quote(name)}; {there}\n"
    headrace("--load", "m")
    assert house.ask("m") == ("1", 1)
