"""Each rpc of each service, by the descriptors: bytes that are not a message, and handlers that fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from headrace.wire.frames import parse_frame
from tests import models
from tests.e2e.faulty import BROKEN_TAG
from tests.e2e.scale_requests import answer, request
from tests.e2e.serving import F32, Served
from tests.e2e.stubs import Command, Event, StubStream
from tests.interpreted import interpreted

pytestmark = pytest.mark.transport

FILES = (pb, oip, health_pb2, reflection_pb2)
RPCS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
STREAM, TRITON = "/headrace.v1.Inference/Stream", "/inference.GRPCInferenceService/ModelStreamInfer"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
IN_BAND = (STREAM, TRITON)
GARBAGE = {
    "no tag": b"\xff" * 11,
    "cut short": b"\x0a\x7fabc",
    "no UTF-8": b"\x0a\x02\xff\xfe",
    "a group without end": b"\x0b",
}
INCIDENT = re.compile(r"the server failed; its log has the details under (\w{12})")


class Ended(NamedTuple):
    code: grpc.StatusCode
    details: str
    messages: list[bytes]


def call(channel: grpc.Channel, rpc: str, *messages: bytes, token: str = "") -> Ended:
    """Send bytes, and see how the call ends and what came before."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    method = RPCS[rpc]
    many = bool(method.client_streaming), bool(method.server_streaming)
    kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    received: list[bytes] = []
    try:
        begun = kinds[many](rpc)(iter(messages) if many[0] else messages[0], timeout=30, metadata=metadata)
        received += begun if many[1] else [begun]
    except grpc.RpcError as error:
        return Ended(error.code(), error.details() or "", received)
    return Ended(grpc.StatusCode.OK, "", received)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder = tmp_path_factory.mktemp("rpcs")
    arguments = [str(models.scale(folder)), "--model-control", "--shared-memory", F32]
    with Served(arguments, folder / "log") as served, grpc.insecure_channel(served.address) as channel:
        yield channel
        assert served.stop() == 0
        assert "Traceback" not in served.log
        assert " ERROR " not in served.log


def test_every_rpc_is_tested_here() -> None:
    assert len(RPCS) == 30
    assert {*IN_BAND, REFLECTION} <= RPCS.keys()


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc not in IN_BAND])
def test_bytes_that_are_not_a_message_are_refused_by_every_rpc(channel: grpc.Channel, rpc: str, garbage: str) -> None:
    data = GARBAGE[garbage]
    kind = GetMessageClass(RPCS[rpc].input_type)
    if garbage == "no UTF-8" and is_message(kind, data):
        return  # nothing says that field 1 of this message has to be text
    ended = call(channel, rpc, data)
    assert ended.code is grpc.StatusCode.INVALID_ARGUMENT, ended.details
    assert len(ended.details) > 10
    for private in ("Error", "Exception", "Traceback", "google", ".py"):
        assert private not in ended.details


def is_message(kind: Any, data: bytes) -> bool:
    try:
        kind.FromString(data)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_stream_lives_on_after_bytes_that_are_not_a_frame(channel: grpc.Channel, garbage: str) -> None:
    cancel = pb.ClientFrame(commands=[Command(kind=Command.CANCEL, tag=7)]).SerializeToString()
    tag_0 = pb.ClientFrame(commands=[Command(tag=0)]).SerializeToString()
    ended = call(channel, STREAM, GARBAGE[garbage], cancel, tag_0)
    assert ended.code is grpc.StatusCode.OK
    events = [event for message in ended.messages for event in parse_frame(message, pb.ServerFrame())[0].events]
    assert [event.kind for event in events] == [Event.HELLO, Event.FAILED, Event.FAILED]
    assert [event.failure.code for event in events[1:]] == [pb.INVALID_ARGUMENT] * 2


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_stream_of_the_other_protocol_lives_on_after_bytes_that_are_not_a_message(
    channel: grpc.Channel, garbage: str
) -> None:
    ended = call(channel, TRITON, GARBAGE[garbage], request(1).SerializeToString())
    assert ended.code is grpc.StatusCode.OK
    bad, good = map(oip.ModelStreamInferResponse.FromString, ended.messages)
    assert len(bad.error_message) > 10
    assert "Error" not in bad.error_message
    assert good.infer_response.raw_output_contents == [answer(1)]


def faulty(where: str, folder: Path) -> Served:
    return Served([where, str(models.scale(folder)), "--model-control", F32], folder / "log", module="tests.e2e.faulty")


def test_a_handler_that_fails_gives_an_incident(tmp_path: Path) -> None:
    """Each is an incident: INTERNAL with an id, under which the log has it once."""
    with faulty("handlers", tmp_path) as served, grpc.insecure_channel(served.address) as channel:
        ids: list[str] = []
        for rpc, method in RPCS.items():
            empty = GetMessageClass(method.input_type)().SerializeToString()
            ended = call(channel, rpc, empty)
            if "not implemented by this server" in ended.details or rpc == REFLECTION:
                continue
            assert ended.code is grpc.StatusCode.INTERNAL, rpc
            found = INCIDENT.fullmatch(ended.details)
            assert found, ended.details
            ids.append(found[1])
            check_logged(served, found[1])
        assert len(set(ids)) == len(ids) >= 20
        assert served.stop() == 0
        assert served.log.count("PlantedError: secret") == len(ids)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with faulty("streams", tmp_path_factory.mktemp("faulty")) as served:
        yield served
        assert served.stop() == 0
        assert served.log.count("PlantedError: secret") == served.log.count(" ERROR headrace.server")


@pytest.fixture
def neighbour(broken: Served) -> Iterator[StubStream]:
    """A stream that has a kept output, and still has it afterwards."""
    with StubStream(broken.address) as stream:
        infer(stream, 1, keep=True)
        assert stream.receive()[0].kind == Event.DONE
        yield stream
        stream.send(Command(kind=Command.FETCH, tag=2, fetch=pb.Fetch(source=1, output="y")))
        fetched, outputs = stream.receive()
        assert (fetched.kind, outputs["y"].tolist()) == (Event.FETCHED, [1.0])


@interpreted
class TestStreamsThatFail:
    """The stream ends, or where it can be told apart its one request does. Others lose nothing."""

    def test_a_reader_that_fails_in_the_middle_of_a_frame_ends_its_stream(
        self, broken: Served, neighbour: StubStream
    ) -> None:
        with StubStream(broken.address) as stream:
            infer(stream, 1, keep=True, more=[Command(kind=Command.CANCEL, tag=BROKEN_TAG), Command(tag=3, call=1)])
            check_incident(broken, stream)

    def test_a_writer_that_fails_ends_its_stream(self, broken: Served, neighbour: StubStream) -> None:
        with StubStream(broken.address) as stream:
            stream.send(Command(kind=Command.FETCH, tag=BROKEN_TAG, fetch=pb.Fetch(source=9)), Command(tag=0))
            stream.send(Command(tag=BROKEN_TAG, call=1, tensors=0))
            check_incident(broken, stream)

    def test_requests_of_the_other_protocol_that_fail_give_an_incident(
        self, broken: Served, neighbour: StubStream
    ) -> None:
        """One that cannot be read and one whose response cannot be written; the stream goes on."""
        requests = [request(number) for number in range(4)]
        requests[1].id, requests[2].id = "broken request", "broken response"
        with grpc.insecure_channel(broken.address) as channel:
            ended = call(channel, TRITON, *[each.SerializeToString() for each in requests])
            assert ended.code is grpc.StatusCode.OK
            first, read, written, last = map(oip.ModelStreamInferResponse.FromString, ended.messages)
            assert first.infer_response.raw_output_contents == [answer(0)]
            assert last.infer_response.raw_output_contents == [answer(3)]
            for failed, each in ((read, requests[1]), (written, requests[2])):
                found = INCIDENT.fullmatch(failed.error_message)
                assert found, failed.error_message
                assert failed.infer_response.id == each.id
                check_logged(broken, found[1])
                alone = call(channel, "/inference.GRPCInferenceService/ModelInfer", each.SerializeToString())
                assert alone.code is grpc.StatusCode.INTERNAL
                assert INCIDENT.fullmatch(alone.details)

    def test_an_admission_that_fails_gives_an_incident(self, broken: Served, neighbour: StubStream) -> None:
        """What had been admitted is not known then, so the stream ends."""
        bad = request(1)
        bad.parameters["priority"].uint64_param = 7  # 3 of ours
        with grpc.insecure_channel(broken.address) as channel:
            for rpc in (TRITON, "/inference.GRPCInferenceService/ModelInfer"):
                ended = call(channel, rpc, bad.SerializeToString())
                assert ended.code is grpc.StatusCode.INTERNAL
                found = INCIDENT.fullmatch(ended.details)
                assert found, ended.details
                check_logged(broken, found[1])


def infer(stream: StubStream, tag: int, *, keep: bool, more: Sequence[pb.Command] = ()) -> None:
    """1 = 2 * 0 + 1, and other commands in the same frame."""
    inputs = [pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))]
    define = pb.Call(model="scale", inputs=inputs, keep=["y"] if keep else [])
    commands = [Command(kind=Command.DEFINE, call=1, define=define), Command(tag=tag, call=1, tensors=1)]
    stream.send(*commands, *more, tensors=[np.zeros(1, np.float32).tobytes()])


def check_incident(served: Served, stream: StubStream) -> None:
    assert stream.ends_with() is grpc.StatusCode.INTERNAL
    found = INCIDENT.fullmatch(stream.replies.details())
    assert found, stream.replies.details()
    check_logged(served, found[1])


def check_logged(served: Served, incident: str) -> None:
    """The log has the details of an incident once, and one line about the request that has failed by it."""
    log = served.wait_until_logged(f"incident={incident}")
    assert (log.count(f"incident {incident}"), log.count(f"incident={incident}")) == (1, 1)
