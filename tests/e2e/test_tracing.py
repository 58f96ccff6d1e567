"""Traces of requests: a real server, and a collector that the test starts."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
import pytest

from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.collector import Span, collecting, roots_of
from tests.e2e.serving import F32, Serve, run_server

ONE = np.ones(1, np.float32).tobytes()
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
OTHER_TRACE = "11111111111111111111111111111111"
CLOCK_SECONDS = 1e-6
"""How exact a float holds the nanoseconds since 1970."""


def parent_of(trace: str, span: int) -> str:
    return f"00-{trace}-{span:016x}-01"


def description(model: str, keep: Sequence[str] = (), reference: str = "") -> pb.Call:
    call = pb.Call(model=model, all_outputs=True, keep=keep)
    source = call.inputs.add(name="x")
    if reference:
        source.reference.output = reference
    else:
        source.inline.datatype = pb.FP32
        source.inline.shape.append(1)
    return call


def define(number: int, call: pb.Call) -> pb.Command:
    return pb.Command(kind=pb.Command.DEFINE, call=number, define=call)


def infer(tag: int, call: int, parent: str = "", sources: Sequence[int] = ()) -> pb.Command:
    return pb.Command(tag=tag, call=call, tensors=0 if sources else 1, traceparent=parent, sources=sources)


def run_stream(
    address: str,
    commands: Sequence[pb.Command],
    ends: int,
    metadata: Metadata = (),
) -> dict[int, pb.Event]:
    """Send one frame on a stream of its own, and return so many terminal events by their tags."""
    frame = pb.ClientFrame(commands=commands, tensors=[ONE] * sum(command.tensors for command in commands))
    done = threading.Event()
    events: dict[int, pb.Event] = {}

    def frames() -> Iterator[pb.ClientFrame]:
        yield frame
        done.wait(60)

    with grpc.insecure_channel(address) as channel:
        for answer in InferenceStub(channel).Stream(frames(), metadata=metadata, timeout=60):
            for event in answer.events:
                if event.kind in (pb.Event.DONE, pb.Event.FAILED):
                    events[event.tag] = event
            if len(events) == ends:
                done.set()
    return events


def children(spans: Sequence[Span], root: Span) -> dict[str, Span]:
    return {span.name: span for span in spans if span.parent == root.id}


def assert_nested(root: Span, parts: dict[str, Span]) -> None:
    """Each part begins where the one before has ended, and all are within the request."""
    ordered = [parts[name] for name in ("waiting", "queue", "run", "send") if name in parts]
    assert len(ordered) == len(parts)
    assert abs(ordered[0].start - root.start) < CLOCK_SECONDS
    assert abs(ordered[-1].end - root.end) < CLOCK_SECONDS
    for before, after in pairwise(ordered):
        assert before.start <= before.end
        assert abs(before.end - after.start) < CLOCK_SECONDS
    assert {part.trace for part in ordered} == {root.trace}


def serve_traced(serve: Serve, folder: Path, port: int, sample: float, *arguments: str) -> str:
    files = [str(each(folder)) for each in (models.scale, models.failing, models.half_failing)]
    endpoint = f"--trace-endpoint=http://127.0.0.1:{port}"
    return serve(*files, endpoint, f"--trace-sample={sample}", "--prune=off", *arguments).address


def test_tickets_of_a_stream_are_traced_each_by_its_own_context(serve: Serve, tmp_path: Path) -> None:
    with collecting() as (collector, port):
        address = serve_traced(serve, tmp_path, port, 0.0)
        began = time.time()
        commands = [
            define(1, description("scale", keep=["y"])),
            define(2, description("scale", reference="y")),
            define(3, description("failing")),
            infer(1, 1, parent_of(TRACE, 1)),
            infer(2, 2, parent_of(OTHER_TRACE, 2), sources=[1]),
            infer(3, 3, parent_of(TRACE, 3)),
            infer(4, 1, NOT_SAMPLED),
            infer(5, 1),
            infer(6, 9, parent_of(TRACE, 6)),
        ]
        events = run_stream(address, commands, 6)
        assert {tag for tag, event in events.items() if event.kind == pb.Event.FAILED} == {3, 6}
        spans = collector.wait(4)
    roots = {span.attributes["headrace.tag"]: span for span in roots_of(spans)}
    assert roots.keys() == {"1", "2", "3", "6"}
    for tag, trace, name in (
        ("1", TRACE, "infer scale"),
        ("2", OTHER_TRACE, "infer scale"),
        ("3", TRACE, "infer failing"),
        ("6", TRACE, "infer"),
    ):
        root = roots[tag]
        assert (root.trace, root.parent, root.name) == (trace, f"{int(tag):016x}", name)
        assert root.kind == 2  # SERVER
        assert root.service == "headrace"
        assert began - 1 < root.start < root.end < time.time() + 1
        assert root.attributes["rpc.service"] == "headrace.v1.Inference"
        assert root.attributes["rpc.method"] == "Stream"
        assert root.attributes["client.address"].startswith("ipv4:127.0.0.1:")
        assert_nested(root, children(spans, root))
    done, dependant, failed, wrong = (roots[tag] for tag in ("1", "2", "3", "6"))
    assert (done.attributes["headrace.model"], done.attributes["headrace.version"]) == ("scale", "1")
    assert (done.status, done.attributes["rpc.grpc.status_code"]) == (0, 0)
    run = children(spans, done)["run"]
    assert run.attributes["headrace.batch"] >= 1
    assert isinstance(run.attributes["headrace.direct"], bool)
    assert run.end > run.start
    assert events[1].running_us == pytest.approx((run.end - run.start) * 1e6, abs=2)
    assert children(spans, done).keys() >= {"run", "send"}
    assert "waiting" not in children(spans, done)
    # It waits for the first one, as long as that has taken.
    assert children(spans, dependant).keys() >= {"waiting", "run", "send"}
    waiting = children(spans, dependant)["waiting"]
    assert events[2].waiting_us == pytest.approx((waiting.end - waiting.start) * 1e6, abs=2)
    assert (failed.status, failed.attributes["rpc.grpc.status_code"]) == (2, 13)
    assert "its log has the details under" in failed.message
    assert (wrong.status, wrong.attributes["rpc.grpc.status_code"]) == (2, 3)
    assert wrong.message == "call 9 is not defined on this stream"
    assert "headrace.model" not in wrong.attributes


def test_calls_are_traced_by_their_metadata(serve: Serve, tmp_path: Path) -> None:
    """Of both protocols; the tickets of a stream that have no context of their own have that of its call."""
    metadata: Metadata = (("traceparent", SAMPLED), ("tracestate", "vendor=1"))
    not_sampled: Metadata = (("traceparent", NOT_SAMPLED),)
    request = oip.ModelInferRequest(model_name="scale", id="an-id", raw_input_contents=[ONE])
    request.inputs.add(name="x", datatype="FP32", shape=[1])
    wrong = oip.ModelInferRequest(model_name="scale", id="wrong", raw_input_contents=[b"odd"])
    wrong.inputs.add(name="x", datatype="FP32", shape=[1])
    unary = pb.InferRequest(call=description("scale"), tensors=[ONE])
    with collecting() as (collector, port):
        address = serve_traced(serve, tmp_path, port, 1.0)
        with grpc.insecure_channel(address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            for given in (metadata, not_sampled):
                stub.ModelInfer(request, metadata=given, timeout=60)
                with pytest.raises(grpc.RpcError):
                    stub.ModelInfer(wrong, metadata=given, timeout=60)
                assert len(list(stub.ModelStreamInfer(iter([request, wrong]), metadata=given, timeout=60))) == 2
                InferenceStub(channel).Infer(unary, metadata=given, timeout=60)
                run_stream(address, [define(1, description("scale")), infer(7, 1)], 1, given)
        spans = collector.wait(6)
    roots = roots_of(spans)
    assert {(root.trace, root.parent) for root in roots} == {(TRACE, PARENT)}
    found = sorted(
        (root.attributes["rpc.method"], root.attributes.get("headrace.request_id", ""), root.status) for root in roots
    )
    assert found == [
        ("Infer", "", 0),
        ("ModelInfer", "an-id", 0),
        ("ModelInfer", "wrong", 2),
        ("ModelStreamInfer", "an-id", 0),
        ("ModelStreamInfer", "wrong", 2),
        ("Stream", "", 0),
    ]
    for root in roots:
        assert_nested(root, children(spans, root))


@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_a_sample_is_traced_of_what_has_no_context(serve: Serve, tmp_path: Path, ratio: float) -> None:
    """What clients send as a context that is none, too. Each has a trace of its own."""
    commands = [infer(tag, 1, "" if tag % 2 else "no traceparent") for tag in range(1, 201)]
    with collecting() as (collector, port):
        address = serve_traced(serve, tmp_path, port, ratio)
        assert len(run_stream(address, [define(1, description("scale")), *commands], 200)) == 200
        run_stream(address, [define(1, description("scale")), infer(1, 1, SAMPLED)], 1)
        spans = collector.wait(201 if ratio == 1 else 1)
        while ratio and not any(root.trace == TRACE for root in roots_of(spans)):
            spans = collector.wait(len(roots_of(spans)) + 1)
    sampled = [root for root in roots_of(spans) if root.trace != TRACE]
    assert {root.parent for root in sampled} <= {""}
    assert len({root.trace for root in sampled}) == len(sampled)
    assert abs(len(sampled) - 200 * ratio) <= 6 * math.sqrt(200 * ratio * (1 - ratio))  # 6 standard deviations


def test_what_is_left_is_delivered_at_the_end(serve: Serve, tmp_path: Path) -> None:
    """Less than a second after the last answer, when the next delivery is not due."""
    with collecting() as (collector, port):
        served = serve(
            str(models.scale(tmp_path)), f"--trace-endpoint=127.0.0.1:{port}", "--trace-sample=1", "--drain-delay=0"
        )
        commands = [define(1, description("scale")), *[infer(tag, 1) for tag in range(1, 101)]]
        run_stream(served.address, commands, 100)
        assert served.stop() == 0
        assert len(roots_of(collector.spans)) == 100


def test_a_client_that_goes_leaves_traces(serve: Serve, tmp_path: Path) -> None:
    with collecting() as (collector, port):
        served = serve(
            str(models.slow(tmp_path)), f"--trace-endpoint=http://127.0.0.1:{port}", "--trace-sample=1", "--slots=1"
        )
        with grpc.insecure_channel(served.address) as channel:
            request = pb.InferRequest(call=description("slow"), tensors=[ONE])
            waiting = [InferenceStub(channel).Infer.future(request, timeout=60) for _ in range(8)]
            waiting[0].result()
            for each in waiting:
                each.cancel()
        spans = collector.wait(8)
    gone = [root for root in roots_of(spans) if root.status == 2]
    assert gone
    assert {(root.message, root.attributes["rpc.grpc.status_code"]) for root in gone} == {("the client has gone", 1)}


def test_a_collector_that_is_dead_costs_one_line(serve: Serve, tmp_path: Path) -> None:
    """Requests go on, the end is not delayed, and when it is there again it gets what comes then."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    served = serve(
        str(models.scale(tmp_path)),
        f"--trace-endpoint=http://127.0.0.1:{port}",
        "--trace-sample=1",
        env={"OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    )
    commands = [define(1, description("scale")), *[infer(tag, 1) for tag in range(1, 101)]]
    for _ in range(5):
        assert len(run_stream(served.address, commands, 100)) == 100
    served.wait_until_logged("traces are dropped")
    with collecting(port) as (collector, _):
        deadline = time.monotonic() + 60
        while not collector.spans:
            assert time.monotonic() < deadline
            run_stream(served.address, commands, 100)
        log = served.wait_until_logged("takes traces again")
    assert served.stop() == 0
    lines = [line for line in log.splitlines() if "traces" in line or "opentelemetry" in line]
    assert len(lines) == 2
    assert re.fullmatch(
        rf".* WARNING headrace.server.telemetry.tracing: traces are dropped: the collector at "
        rf"http://127.0.0.1:{port} does not take them",
        lines[0],
    )
    assert re.fullmatch(r".* INFO .*takes traces again; \d+ spans were dropped", lines[1])


def test_without_the_option_nothing_is_imported(tmp_path: Path) -> None:
    """The server starts, serves and stops without a module of opentelemetry."""
    program = (
        "import sys, headrace.server.server, headrace.server.cli\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"


def test_the_extra_that_is_missing_is_named(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "opentelemetry").mkdir(parents=True)
    (hidden / "opentelemetry" / "__init__.py").write_text("raise ModuleNotFoundError('no opentelemetry')")
    program = f"import sys; sys.path.insert(0, {str(hidden)!r}); from headrace.server.cli import main; main()"
    arguments = [str(models.scale(tmp_path)), "--port=0", "--trace-endpoint=127.0.0.1:4317", F32]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "headrace-server: --trace-endpoint needs another extra. Install it with: pip install 'headrace[tracing]'\n"
    )


@pytest.mark.parametrize("endpoint", ["collector", "http://", "ftp://collector:4317", "a b:1"])
def test_an_endpoint_that_is_none_is_refused(tmp_path: Path, endpoint: str) -> None:
    ended = run_server(str(models.scale(tmp_path)), f"--trace-endpoint={endpoint}")
    assert ended.returncode == 2
    assert "is not the address of a collector, such as http://127.0.0.1:4317" in ended.stderr
