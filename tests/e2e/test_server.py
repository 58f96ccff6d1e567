"""The process: options, the ready line, exit codes, signals."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import grpc
import pytest

from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.serving import Serve, run_server
from tests.e2e.stubs import Command, Event, StubStream


def test_one_line_is_on_standard_output(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"first={models.scale(tmp_path)}", str(models.onnx_add(tmp_path)))
    assert served.process.stdout is not None
    assert "(2 models)" in f"({len(described(served.address))} models)"
    assert served.stop() == 0
    assert served.process.stdout.read() == ""
    assert "Traceback" not in served.log


def described(address: str) -> list[pb.ModelDescription]:
    with grpc.insecure_channel(address) as channel:
        return list(InferenceStub(channel).ListModels(pb.ListModelsRequest(), timeout=30).models)


def test_models_are_described_as_they_were_read(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}", f"c={models.counter(tmp_path)}", "--slots=3")
    am, counter = described(served.address)
    assert (am.name, am.version, am.slots, am.has_variables) == ("am", "1", 3, False)
    assert (counter.name, counter.has_variables) == ("c", True)
    assert [port.name for port in am.inputs] == ["x", "y"]
    assert [port.name for port in am.outputs] == ["sum", "product"]
    assert am.inputs[0].datatype == pb.FP32
    assert [(dimension.min, dimension.max) for dimension in am.inputs[0].shape] == [(0, -1), (16, 16)]


BAD_SECONDS = [
    *(f"{option}={value}" for option in ("--grace", "--keep-seconds") for value in ("nan", "-1", "soon")),
    *(f"{option}={value}" for option in ("--drain-delay", "--batch-delay", "--busy-poll") for value in ("nan", "inf")),
    "--busy-poll=1e300",
    *(f"--load-timeout={value}" for value in ("nan", "0", "-1", "soon")),
]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], 2, "MODEL"),
        (["--help"], 0, ""),
        (["{model}", "--window=0"], 2, "--window"),
        (["{model}", "--keep-bytes=5parsec"], 2, "5parsec"),
        *[(["{model}", option], 2, option.partition("=")[0]) for option in BAD_SECONDS],
        (["{model}", "--property=nonsense"], 2, "nonsense"),
        (["{model}", "--nope"], 2, "--nope"),
        (["{model}", "--config=nowhere.toml"], 2, "nowhere.toml"),
        (["{model}", "--config={text}"], 2, "not valid TOML"),
        (["{model}", "--config={unknown}"], 2, "windows"),
        (["nowhere.onnx"], 3, "nowhere.onnx"),
        (["text={text}"], 3, "'text'"),
        (["{model}", "{model}"], 3, "'scale'"),
        (["spaced name={model}"], 3, "'spaced name'"),
        (["{model}", "--device=WARP"], 3, "'scale'"),
    ],
)
def test_errors_at_start_are_sentences_with_exit_codes(
    tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    text = tmp_path / "text.xml"
    text.write_text("this is no model")
    unknown = tmp_path / "unknown.toml"
    unknown.write_text("[server]\nwindows = 3")
    model = models.scale(tmp_path)
    filled = [argument.format(model=model, text=text, unknown=unknown) for argument in arguments]
    ended = run_server(*filled)
    assert ended.returncode == code, ended.stderr
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_server(str(models.scale(tmp_path)), f"--port={port}")
    assert ended.returncode == 4
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_flags_win_over_the_environment_and_that_over_the_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('[server]\nwindow = 8\nkeep_bytes = "1MiB"\nkeep_seconds = 1.5\nslots = 2\n')
    env = {"HEADRACE_KEEP_BYTES": "2MiB", "HEADRACE_SLOTS": "3", "HEADRACE_CONFIG": str(file)}
    served = serve(str(models.scale(tmp_path)), "--slots=4", env=env)
    with StubStream(served.address) as stream:
        assert stream.hello.window == 8
        assert stream.hello.keep_bytes == 2 << 20
        assert stream.hello.keep_us == 1_500_000
    assert described(served.address)[0].slots == 4


def test_streams_over_the_limit_are_refused(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--streams=2")
    with StubStream(served.address), StubStream(served.address):
        with pytest.raises(grpc.RpcError) as refused:
            described(served.address)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # The places are free again as soon as the server has seen the ends.
    assert any(is_served(served.address) for _ in range(100))


def is_served(address: str) -> bool:
    try:
        return len(described(address)) == 1
    except grpc.RpcError as error:
        return error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_first_signal_drains(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"slow={models.slow(tmp_path)}", f"scale={models.scale(tmp_path)}")
    with StubStream(served.address) as stream, StubStream(served.address) as idle:
        one = pb.Inline(datatype=pb.FP32, shape=[1])
        for number, model in enumerate(("slow", "scale"), 1):
            call = pb.Call(model=model, inputs=[pb.Input(name="x", inline=one)], outputs=["y"], keep=["y"])
            stream.send(Command(kind=Command.DEFINE, call=number, define=call))
        stream.send(Command(tag=1, call=2, tensors=1), tensors=[b"\0\0\0\0"])
        assert stream.receive()[0].tag == 1
        stream.send(Command(tag=2, call=1, tensors=1), tensors=[b"\0\0\x80\x3f"])
        stream.send(Command(kind=Command.FETCH, tag=3, fetch=pb.Fetch(source=1, output="y")))
        assert stream.receive()[0].tag == 3  # so that the slow one has been admitted
        served.process.send_signal(signal.SIGTERM)
        assert stream.receive()[0].kind == Event.DRAINING
        # The stream without work ends at once, by itself.
        assert idle.receive()[0].kind == Event.DRAINING
        assert idle.ends_with() is grpc.StatusCode.UNAVAILABLE
        stream.send(
            Command(tag=4, call=2, tensors=1),
            Command(kind=Command.FETCH, tag=5, fetch=pb.Fetch(source=1, output="y")),
            tensors=[b"\0\0\0\0"],
        )
        refused, _ = stream.receive()
        assert (refused.tag, refused.failure.code, refused.failure.retryable) == (4, pb.UNAVAILABLE, True)
        fetched, outputs = stream.receive()
        assert (fetched.kind, fetched.tag, outputs["y"].tolist()) == (Event.FETCHED, 5, [1.0])
        done, outputs = stream.receive()
        assert (done.kind, done.tag, outputs["y"].tolist()) == (Event.DONE, 2, [1.0])
        # Kept outputs hold the stream open until they are released.
        stream.send(Command(kind=Command.RELEASE, tag=1), Command(kind=Command.RELEASE, tag=2))
        assert stream.ends_with() is grpc.StatusCode.UNAVAILABLE
    assert served.process.wait(30) == 0


def test_after_the_grace_period_what_is_left_fails(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"slow={models.slow(tmp_path, steps=400)}", "--grace=0.2")
    with StubStream(served.address) as stream:
        one = pb.Inline(datatype=pb.FP32, shape=[1])
        call = pb.Call(model="slow", inputs=[pb.Input(name="x", inline=one)])
        stream.send(
            Command(kind=Command.DEFINE, call=1, define=call),
            Command(tag=1, call=1, tensors=1),
            Command(tag=1),
            tensors=[b"\0\0\0\0"],
        )
        assert stream.receive()[0].kind == Event.FAILED  # of the tag that is live: so 1 has been admitted
        served.process.send_signal(signal.SIGINT)
        assert stream.receive()[0].kind == Event.DRAINING
        failed, _ = stream.receive()
        assert (failed.tag, failed.failure.code) == (1, pb.UNAVAILABLE)
        assert stream.ends_with() is grpc.StatusCode.UNAVAILABLE
    assert served.process.wait(30) == 0


def test_a_second_signal_stops_at_once(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}")
    with StubStream(served.address) as stream:
        one = pb.Inline(datatype=pb.FP32, shape=[1])
        call = pb.Call(model="scale", inputs=[pb.Input(name="x", inline=one)], keep=["y"])
        stream.send(
            Command(kind=Command.DEFINE, call=1, define=call), Command(tag=1, call=1, tensors=1), tensors=[b"\0" * 4]
        )
        assert stream.receive()[0].kind == Event.DONE
        served.process.send_signal(signal.SIGTERM)
        assert stream.receive()[0].kind == Event.DRAINING
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 128 + signal.SIGTERM
