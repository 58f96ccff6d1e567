"""The log has a line for each request that fails, by every way to make one, and for a sample of those that succeed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
import headrace.client.blocking as blocking
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.server.security.scopes import Scope
from tests import models
from tests.e2e.people import People
from tests.e2e.request_lines import Line, lines_of, request_lines
from tests.e2e.serving import Serve, run_server

ONE = np.ones(1, np.float32)
NATIVE, OIP = "headrace.v1.Inference/", "inference.GRPCInferenceService/"
INCIDENT = re.compile(r"its log has the details under (\w+)")
SECRET = "hunter2-7d1f"


def oip_request(model: str, request_id: str, data: bytes = ONE.tobytes()) -> oip.ModelInferRequest:
    message = oip.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=[data])
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    return message


def of_rpc(lines: list[Line], rpc: str) -> list[Line]:
    return [line for line in lines if line["rpc"] == rpc]


def test_each_failure_has_one_line(serve: Serve, tmp_path: Path) -> None:
    """By both protocols, by streams and unary calls: once each, with what helps to find its cause."""
    files = [str(model(tmp_path)) for model in (models.scale, models.failing, models.half_failing)]
    served = serve(*files, "--log-format=json", "--prune=off")
    with blocking.connect(served.address) as server:
        with server.stream() as stream:
            assert stream.submit("scale", {"x": ONE}).result(60)["y"].tolist() == [3]
            failed = stream.submit("failing", {"x": ONE})
            with pytest.raises(hc.Internal) as of_stream:
                failed.result(60)
            first = stream.submit("half_failing", {"x": ONE}, keep=["twice"])
            dependant_ticket = stream.submit("scale", {"x": first["twice"]})
            with pytest.raises(hc.FailedPrecondition):
                dependant_ticket.result(60)
        with pytest.raises(hc.Internal):
            server.infer("failing", {"x": ONE})
    with grpc.insecure_channel(served.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(oip_request("failing", "unary-1"), timeout=60)
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(oip_request("no-such", "unary-2"), timeout=60)
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(oip.ModelInferRequest(id="r" * 5000), timeout=60)
        with pytest.raises(grpc.RpcError):
            stub.ModelMetadata(oip.ModelMetadataRequest(name="no-such"), timeout=60)
        with pytest.raises(grpc.RpcError):
            stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="scale"), timeout=60)
        requests = [oip_request("scale", "s-1"), oip_request("scale", "s-2", b"odd"), oip_request("failing", "s-3")]
        answers = list(stub.ModelStreamInfer(iter(requests), timeout=60))
        assert [bool(answer.error_message) for answer in answers] == [False, True, True]
    assert served.stop() == 0
    lines = request_lines(served, 11)
    assert len(lines) == 11, served.log

    one, two, dependant = of_rpc(lines, NATIVE + "Stream")
    incident = INCIDENT.search(str(of_stream.value))
    assert incident
    assert (one["level"], one["code"], one["model"], one["version"]) == ("error", "INTERNAL", "failing", "1")
    assert one["incident"] == incident[1]
    assert one["message"] == f"a request failed: the server failed; its log has the details under {incident[1]}"
    assert one["peer"].startswith("ipv4:127.0.0.1:")
    assert one["tag"] > 0
    assert one["running_ms"] > 0
    assert two["incident"] != one["incident"]
    assert (dependant["level"], dependant["code"], dependant["model"]) == ("info", "FAILED_PRECONDITION", "scale")
    assert dependant["running_ms"] == 0
    assert "incident" not in dependant
    # The details are there under that id.
    details = [line for line in lines_of(served) if line["message"] == f"incident {incident[1]}"]
    assert len(details) == 1
    assert details[0]["traceback"].startswith("Traceback")

    (unary,) = of_rpc(lines, NATIVE + "Infer")
    assert (unary["code"], unary["model"], "tag" in unary) == ("INTERNAL", "failing", False)
    by_id = {line.get("request_id"): line for line in of_rpc(lines, OIP + "ModelInfer")}
    assert by_id.keys() == {"unary-1", "unary-2", None}
    assert by_id["unary-1"]["code"] == "INTERNAL"
    assert (by_id["unary-2"]["code"], by_id["unary-2"]["model"]) == ("NOT_FOUND", "no-such")
    assert "version" not in by_id["unary-2"]
    assert by_id[None]["code"] == "INVALID_ARGUMENT"
    (metadata,) = of_rpc(lines, OIP + "ModelMetadata")
    assert (metadata["level"], metadata["code"]) == ("info", "NOT_FOUND")
    (control,) = of_rpc(lines, OIP + "RepositoryModelUnload")
    assert (control["level"], control["code"]) == ("warning", "PERMISSION_DENIED")
    assert {line["request_id"]: line["code"] for line in of_rpc(lines, OIP + "ModelStreamInfer")} == {
        "s-2": "INVALID_ARGUMENT",
        "s-3": "INTERNAL",
    }


@pytest.mark.parametrize("transport", ["aio", "completion-queue"])
def test_each_call_that_fails_has_one_line_with_each_transport(serve: Serve, tmp_path: Path, transport: str) -> None:
    served = serve(str(models.scale(tmp_path)), "--log-format=json", f"--transport={transport}", "--streams=1")
    with grpc.insecure_channel(served.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        done = threading.Event()

        def requests() -> Iterator[oip.ModelInferRequest]:
            yield oip_request("scale", "s-1")
            done.wait(60)

        answers = stub.ModelStreamInfer(requests(), timeout=60)
        assert not next(answers).error_message
        with pytest.raises(grpc.RpcError):  # there is a place for one call
            stub.ModelInfer(oip_request("scale", "unary"), timeout=60)
        done.set()
        assert list(answers) == []
        for request in (oip_request("no-such", "unary"), oip_request("scale", "unary", b"odd")):
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(request, timeout=60)
    assert served.stop() == 0
    assert [(line["rpc"], line["code"], line["level"]) for line in request_lines(served, 3)] == [
        (OIP + "ModelInfer", "RESOURCE_EXHAUSTED", "warning"),
        (OIP + "ModelInfer", "NOT_FOUND", "info"),
        (OIP + "ModelInfer", "INVALID_ARGUMENT", "info"),
    ]


@pytest.mark.parametrize("transport", ["aio", "completion-queue"])
def test_a_refusal_says_who_was_refused(serve: Serve, tmp_path: Path, transport: str) -> None:
    people = People(tmp_path / "identities.toml")
    token = people.add("camera-1", Scope.METADATA)
    options = "--log-format=json", f"--transport={transport}", f"--identities={people.file}"
    served = serve(str(models.scale(tmp_path)), *options)
    with grpc.insecure_channel(served.address) as channel:
        for metadata in ((("authorization", f"Bearer {token}"),), ()):
            with pytest.raises(grpc.RpcError):
                GRPCInferenceServiceStub(channel).ModelInfer(oip_request("scale", "r"), timeout=60, metadata=metadata)
    assert served.stop() == 0
    denied, unknown = request_lines(served, 2)
    assert (denied["code"], denied["identity"], denied["rpc"]) == ("PERMISSION_DENIED", "camera-1", OIP + "ModelInfer")
    assert denied["peer"].startswith("ipv4:127.0.0.1:")
    assert (unknown["code"], "identity" in unknown) == ("UNAUTHENTICATED", False)


def test_a_flood_of_failures_has_some_lines_and_a_count(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--log-format=json")
    with grpc.insecure_channel(served.address) as channel:
        wrong = [oip_request("scale", f"s-{number}", b"odd") for number in range(4000)]
        answers = list(GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(wrong), timeout=120))
    assert all(answer.error_message for answer in answers)
    assert len(answers) == 4000
    assert served.stop() == 0
    lines = request_lines(served, 1)
    left_out = sum(line.get("count", 0) for line in lines)
    assert sum("code" in line for line in lines) + left_out == 4000
    seconds = sum("count" in line for line in lines)
    assert 1 <= seconds <= 60
    assert len(lines) <= 11 * (seconds + 1)


@pytest.mark.parametrize("ratio", ["0", "0.1", "1"])
def test_a_sample_of_what_succeeds(serve: Serve, tmp_path: Path, ratio: str) -> None:
    served = serve(str(models.scale(tmp_path)), "--log-format=json", f"--log-requests={ratio}")
    with blocking.connect(served.address) as server, server.stream() as stream:
        for _ in range(400):
            assert stream.submit("scale", {"x": ONE}).result(60)["y"].tolist() == [3]
    with grpc.insecure_channel(served.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(oip_request("scale", "the-id"), timeout=60).id == "the-id"
        assert len(list(stub.ModelStreamInfer(iter([oip_request("scale", "s-1")]), timeout=60))) == 1
    assert served.stop() == 0
    lines = request_lines(served, 0)
    if ratio == "1":
        assert [line.get("request_id") for line in lines[400:]] == ["the-id", "s-1"]
        assert len({line["tag"] for line in lines[:400]}) == 400
        first = lines[0]
        assert (first["level"], first["code"], first["model"], first["version"]) == ("info", "OK", "scale", "1")
        assert first["message"] == "a request succeeded"
        assert first["running_ms"] > 0
        assert first["batch"] == 1
        assert isinstance(first["direct"], bool)
    assert abs(len(lines) - 402 * float(ratio)) <= 402 * float(ratio) * (1 - float(ratio))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_in_the_log(serve: Serve, tmp_path: Path, log_format: str) -> None:
    """Neither metadata, nor what tensors hold, nor the configuration of a model, with every message shown."""
    for name, make in (("scale", models.scale), ("failing", models.failing)):
        folder = tmp_path / "repository" / name / "1"
        folder.mkdir(parents=True)
        make(folder).rename(folder / "model.xml")
        (folder / f"{name}.bin").rename(folder / "model.bin")
        parameters = f'parameters {{ key: "api_key" value {{ string_value: "{SECRET}" }} }}\n'
        (folder.parent / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "openvino"\n{parameters}')
    log_options = "--log-level=debug", f"--log-format={log_format}", "--log-requests=1"
    served = serve(f"--repository={tmp_path / 'repository'}", "--lenient", *log_options)
    metadata: tuple[tuple[str, str | bytes], ...] = (
        ("authorization", f"Bearer {SECRET}"),
        ("x-secret", SECRET),
        ("x-secret-bin", SECRET.encode()),
    )
    text = np.frombuffer(SECRET.encode().ljust(16), np.float32)
    with grpc.insecure_channel(served.address) as channel:
        stub = GRPCInferenceServiceStub(channel)

        def ask(model: str, data: bytes, shape: int) -> oip.ModelInferRequest:
            message = oip_request(model, "an-id", data)
            message.inputs[0].shape[:] = [shape]
            message.parameters["api_key"].string_param = SECRET
            return message

        for request in (
            ask("scale", text.tobytes(), 4),
            ask("scale", text.tobytes(), 5),
            ask("failing", text.tobytes(), 4),
            ask("failing", text.tobytes()[:4], 1),
        ):
            call = stub.ModelInfer.future(request, timeout=60, metadata=metadata)
            error = call.exception()
            assert error is None or SECRET not in str(error)
        assert len(list(stub.ModelStreamInfer(iter([ask("scale", b"odd", 4)]), timeout=60, metadata=metadata))) == 1
    assert served.stop() == 0
    log = served.log
    assert "api_key" in log
    assert log.count("an-id") >= 5
    assert "a request failed" in log
    for form in (SECRET, SECRET.encode().hex(), *map(repr, text.tolist()), *map(str, text.tolist())):
        assert form not in log


def test_what_a_client_sends_is_one_line(serve: Serve, tmp_path: Path) -> None:
    forged = "x\n2026-11-29 22:00:35,123 ERROR headrace: forged\x1b[31m"
    served = serve(str(models.scale(tmp_path)))
    with grpc.insecure_channel(served.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(oip_request(forged, forged), timeout=60)
    served.wait_until_logged("forged")
    assert served.stop() == 0
    (line,) = [line for line in served.log.split("\n") if "forged" in line]
    assert re.match(r"\S+ \S+ INFO headrace.requests: a request failed: ", line)
    assert line.isprintable()


def test_a_start_that_fails_is_an_object_too(tmp_path: Path) -> None:
    ended = run_server(str(tmp_path / "missing.xml"), "--log-format=json", "--port=0")
    assert ended.returncode == 3
    wrong = run_server(str(models.scale(tmp_path)), "--log-format=json", "--host=no-such-host.invalid")
    assert wrong.returncode == 4
    said = json.loads(wrong.stderr.splitlines()[-1])
    assert (said["level"], said["logger"]) == ("error", "headrace.server")


def test_log_settings_agree_with_the_format(serve: Serve, tmp_path: Path) -> None:
    model = str(models.scale(tmp_path))
    for arguments, expected in (((), "default"), (("--log-format=json",), "json")):
        served = serve(model, "--model-control", *arguments)
        with grpc.insecure_channel(served.address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            settings = stub.LogSettings(oip.LogSettingsRequest(), timeout=60).settings
            assert settings["log_format"].string_param == expected
            # Lines about requests follow the level that clients set.
            request = oip.LogSettingsRequest()
            request.settings["log_info"].bool_param = False
            assert not stub.LogSettings(request, timeout=60).settings["log_info"].bool_param
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(oip_request("no-such", "unseen"), timeout=60)
            request.settings["log_info"].bool_param = True
            stub.LogSettings(request, timeout=60)
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(oip_request("no-such", "seen"), timeout=60)
        served.wait_until_logged("seen")
        assert served.stop() == 0
        assert "unseen" not in served.log


def test_a_client_that_goes_is_a_line_for_those_who_look_closely(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.slow(tmp_path)), "--log-format=json", "--log-level=debug")
    request = oip_request("slow", "s")
    with grpc.insecure_channel(served.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        going = threading.Event()

        def requests() -> Iterator[oip.ModelInferRequest]:
            yield request
            yield request
            yield request
            going.wait(60)

        answers = stub.ModelStreamInfer(requests(), timeout=60)
        assert not next(answers).error_message
        answers.cancel()
        going.set()
        (line,) = request_lines(served, 1)
    assert (line["level"], line["rpc"]) == ("debug", OIP + "ModelStreamInfer")
    # The second one may have ended before the server hears of it.
    assert line["message"] in [f"a client has gone with {number} tickets in flight" for number in (1, 2)]
    assert served.stop() == 0
