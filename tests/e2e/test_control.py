"""Models are loaded and unloaded under load, by clients that may do so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import headrace.client as hc
from headrace.client import blocking
from headrace.oip import open_inference_pb2 as pb
from tests import models
from tests.e2e.operating import NOT_SERVING, SERVING, Operator, refused
from tests.e2e.serving import Serve, Served

Code = grpc.StatusCode
MIB = 1 << 20
Setting = pb.LogSettingsRequest.SettingValue


@pytest.fixture
def scale(serve: Serve, tmp_path: Path) -> Served:
    """A server with two models that takes control."""
    path = models.scale(tmp_path)
    return serve(f"m={path}", f"other={path}", "--model-control")


@pytest.fixture
def operator(scale: Served) -> Iterator[Operator]:
    operator = Operator(scale.address)
    with operator.channel:
        yield operator


def test_models_stay_as_they_are_without_model_control(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"m={models.scale(tmp_path)}")
    operator = Operator(served.address)
    with operator.channel:
        for change in (operator.load, operator.unload):
            with refused(Code.PERMISSION_DENIED, "--model-control"):
                change("m")
        assert operator.index() == [("m", "1", "READY", "")]
        shown = operator.log()
        with refused(Code.PERMISSION_DENIED, "--model-control"):
            operator.log(log_verbose_level=1)
        assert operator.log(log_file="", log_format="default") == shown
        with refused(Code.INVALID_ARGUMENT, "log_file"):
            operator.log(log_file="/tmp/log")


def test_a_model_is_unloaded_and_loaded_again(operator: Operator, scale: Served) -> None:
    with blocking.connect(scale.address) as server:
        operator.unload("m")
        assert operator.index() == [("m", "1", "UNAVAILABLE", "unloaded"), ("other", "1", "READY", "")]
        assert operator.index(ready=True) == [("other", "1", "READY", "")]
        with pytest.raises(hc.Unavailable, match="model 'm' has been unloaded"):
            server.infer("m", {"x": np.ones(1, np.float32)})
        assert [model.name for model in server.models()] == ["other"]
        operator.unload("m")
        operator.load("m")
        assert operator.index() == [("m", "1", "READY", ""), ("other", "1", "READY", "")]
        assert server.infer("m", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.0]


def test_unknown_models_and_parameters_are_refused(operator: Operator) -> None:
    for change in (operator.load, operator.unload):
        with refused(Code.NOT_FOUND, "'nope'"):
            change("nope")
        with refused(Code.NOT_FOUND, "'elsewhere'"):
            change("m", repository="elsewhere")
    with refused(Code.NOT_FOUND, "'elsewhere'"):
        operator.stub.RepositoryIndex(pb.RepositoryIndexRequest(repository_name="elsewhere"))
    for parameter in ("config", "file:1/model.xml"):
        load = pb.RepositoryModelLoadRequest(model_name="m")
        load.parameters[parameter].string_param = "{}"
        with refused(Code.UNIMPLEMENTED, repr(parameter)):
            operator.stub.RepositoryModelLoad(load)
    unload = pb.RepositoryModelUnloadRequest(model_name="m")
    unload.parameters["nope"].bool_param = True
    with refused(Code.UNIMPLEMENTED, "'nope'"):
        operator.stub.RepositoryModelUnload(unload)
    assert operator.index(ready=True) == [("m", "1", "READY", ""), ("other", "1", "READY", "")]


def test_a_model_is_read_anew_when_it_is_loaded(serve: Serve, tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    weights, broken = path.with_suffix(".bin"), tmp_path / "broken"
    served = serve(f"m={path}", "--model-control")
    operator = Operator(served.address)
    one = {"x": np.ones(1, np.float32)}
    with operator.channel, blocking.connect(served.address) as server, server.stream() as stream:
        assert stream.submit("m", one).result()["y"].tolist() == [3.0]
        two, five = np.float32(2).tobytes(), np.float32(5).tobytes()
        assert weights.read_bytes().count(two) == 1
        replace(weights, weights.read_bytes().replace(two, five))
        assert stream.submit("m", one).result()["y"].tolist() == [3.0]
        operator.load("m")
        assert stream.submit("m", one).result()["y"].tolist() == [6.0]
        # What cannot be loaded replaces nothing.
        path.rename(broken)
        with refused(Code.NOT_FOUND, "model 'm' could not be loaded: its file is missing"):
            operator.load("m")
        replace(path, b"this is no model")
        with refused(Code.FAILED_PRECONDITION, "model 'm' could not be loaded") as raised:
            operator.load("m")
        assert str(tmp_path) not in str(raised.value)
        assert str(tmp_path) in served.log
        assert operator.index() == [("m", "1", "READY", raised.value.details())]
        assert stream.submit("m", one).result()["y"].tolist() == [6.0]
        assert operator.check("m") == SERVING
        operator.unload("m")
        with refused(Code.FAILED_PRECONDITION, "model 'm' could not be loaded"):
            operator.load("m")
        assert operator.index() == [("m", "1", "UNAVAILABLE", raised.value.details())]
        with pytest.raises(hc.Unavailable, match="model 'm' could not be loaded"):
            stream.submit("m", one).result()
        assert operator.check("m") == NOT_SERVING
        broken.rename(path)
        operator.load("m")
        assert stream.submit("m", one).result()["y"].tolist() == [6.0]


def replace(path: Path, content: bytes) -> None:
    """As files of models that are in use are to be replaced: no reader ever sees half of one."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


class User:
    """Submits chains of four until told to stop. `right` and `refused` count the ends of tickets."""

    def __init__(self, address: str, number: int) -> None:
        self.right = self.refused = 0
        self._address = address
        self._number = number

    def use(self, end: threading.Event) -> None:
        with blocking.connect(self._address) as server, server.stream(ordered=self._number % 2 == 0) as stream:
            while not end.is_set():
                self._chain(stream)

    def _chain(self, stream: blocking.Stream) -> None:
        value = float(self._number * 1000 + self.right % 100)
        tickets = [stream.submit("m", {"x": np.full(1 + self._number, value, np.float32)}, keep=["y"])]
        for _ in range(3):
            tickets.append(stream.submit("m", {"x": tickets[-1].take("y")}, keep=["y"]))
        source_failed = False
        for ticket in tickets:
            value = 2 * value + 1
            try:
                y = ticket.result(30)["y"]
            except (hc.Unavailable, hc.FailedPrecondition) as error:
                self.refused += 1
                if isinstance(error, hc.FailedPrecondition) and not source_failed:
                    raise
                source_failed = True
            else:
                assert y.tolist() == [np.float32(value)] * (1 + self._number)
                self.right += 1
        tickets[-1].release()


def test_no_client_gets_a_wrong_answer_while_models_come_and_go(scale: Served, operator: Operator) -> None:
    end = threading.Event()
    users = [User(scale.address, number) for number in range(20)]
    with ThreadPoolExecutor(len(users)) as threads:
        uses = [threads.submit(user.use, end) for user in users]
        began, rounds = time.monotonic(), 0
        try:
            while rounds < 4 or time.monotonic() - began < 4:
                operator.load("m")
                operator.unload("m")
                operator.load("m")
                rounds += 1
        finally:
            end.set()
        for use in uses:
            use.result(30)
    assert all(user.right > 20 for user in users)
    assert sum(user.refused for user in users) > 0
    with blocking.connect(scale.address) as server:
        status = server.status()
        assert [model.name for model in status.models] == ["m", "other"]
        assert status.tickets_in_flight == status.kept_bytes == 0
    assert operator.index() == [("m", "1", "READY", ""), ("other", "1", "READY", "")]
    assert "Traceback" not in scale.log


def test_the_memory_of_old_models_is_freed(serve: Serve, tmp_path: Path) -> None:
    path = heavy(tmp_path, 32 * MIB)
    served = serve(f"heavy={path}", "--model-control", "--run=async", "--slots=1")
    operator = Operator(served.address)
    resident: list[int] = []
    with operator.channel, blocking.connect(served.address) as server:
        for _ in range(16):
            operator.load("heavy")
            assert server.infer("heavy", {"x": np.ones(1, np.float32)})["sum"] == 32 * MIB / 4
            resident.append(served.resident_bytes())
    # Were they kept, each had its weights.
    assert max(resident[8:]) < min(resident[:8]) + 4 * 32 * MIB


def heavy(folder: Path, nbytes: int) -> Path:
    """x: f32[1] -> sum: f32[], x times the sum of so many bytes of weights, which are ones."""
    weights = numpy_helper.from_array(np.ones(nbytes // 4, np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "weights"], ["product"]),
            helper.make_node("ReduceSum", ["product"], ["sum"], keepdims=0),
        ],
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [])],
        [weights],
    )
    path = folder / "heavy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_the_verbosity_of_the_log_changes(operator: Operator, scale: Served) -> None:
    def on(*names: str) -> dict[str, bool | int | str]:
        kinds = ("log_info", "log_warning", "log_error")
        shown: dict[str, bool | int | str] = {"log_file": "", "log_format": "default"}
        shown["log_verbose_level"] = int("log_verbose_level" in names)
        shown.update({name: name in names for name in kinds})
        return shown

    everything = on("log_verbose_level", "log_info", "log_warning", "log_error")
    assert operator.log() == on("log_info", "log_warning", "log_error")
    assert operator.log(log_verbose_level=3) == everything
    assert operator.log(log_verbose_level=0) == on("log_info", "log_warning", "log_error")
    assert operator.log(log_info=False) == on("log_warning", "log_error")
    before = len(scale.log)
    operator.load("m")
    assert "loaded" not in scale.log[before:]
    assert operator.log(log_warning=False, log_info=False) == on("log_error")
    assert operator.log(log_error=False) == on()
    assert operator.log(log_info=True) == on("log_info", "log_warning", "log_error")
    loaded = scale.log.count("loaded")
    operator.load("m")
    scale.wait_until_logged("loaded", loaded + 1)
    # All or nothing.
    shown = operator.log()
    wrong: list[tuple[str, dict[str, bool | int | str]]] = [
        ("'log_colour'", {"log_colour": True}),
        ("log_info", {"log_info": 1}),
        ("log_verbose_level", {"log_verbose_level": True}),
        ("log_file", {"log_file": "/tmp/log"}),
        ("log_file", {"log_file": False}),
        ("log_format", {"log_format": "ISO8601"}),
        ("log_error", {"log_error": False, "log_info": True}),
    ]
    for named, settings in wrong:
        with refused(Code.INVALID_ARGUMENT, named):
            operator.log(log_warning=True, **settings)
        assert operator.log() == shown
    nothing = pb.LogSettingsRequest(settings={"log_info": Setting()})
    with refused(Code.INVALID_ARGUMENT, "log_info"):
        operator.stub.LogSettings(nothing)
