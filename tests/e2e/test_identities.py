"""Who may call what, by tokens and by certificates, on both transports."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

import headrace.client as hc
import headrace.client.blocking as blocking
from headrace.client import PermissionDenied, ResourceExhausted, Unauthenticated
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.server.security.scopes import SCOPES, Scope
from headrace.server.security.tokens import new_token
from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.authority import Authority
from tests.e2e.people import People
from tests.e2e.scale_requests import answer, request
from tests.e2e.serving import F32, Serve, Served
from tests.e2e.test_every_rpc import REFLECTION, RPCS, STREAM, TRITON, call
from tests.waiting import until

TRANSPORTS = ("aio", "completion-queue")
WATCH, INFER = "/grpc.health.v1.Health/Watch", "/headrace.v1.Inference/Infer"
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
AGAIN = "the identities have been read again"
ONE = {"x": np.ones(1, np.float32)}


class Guarded:
    """A server with identities: `root` may do all, each scope's name may do only that, and `nobody` nothing."""

    def __init__(self, served: Served, people: People) -> None:
        self.served, self.people, self.address = served, people, served.address
        self.channel = grpc.insecure_channel(served.address)

    def call(self, rpc: str, name: str = "", *, token: str = "") -> grpc.StatusCode:
        """How an rpc ends for somebody."""
        return self.ended(rpc, token or self.people.tokens.get(name, ""))[0]

    def ended(self, rpc: str, token: str) -> tuple[grpc.StatusCode, str]:
        empty = GetMessageClass(RPCS[rpc].input_type)().SerializeToString()
        if rpc == WATCH:
            watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = self.channel.unary_stream(rpc)
            begun = watch(empty, timeout=30, metadata=(("authorization", f"Bearer {token}"),) if token else ())
            try:
                next(begun)
            except grpc.RpcError as error:
                return error.code(), error.details() or ""
            begun.cancel()
            return grpc.StatusCode.OK, ""
        ended = call(self.channel, rpc, empty, token=token)
        return ended.code, ended.details

    def connect(self, name: str, retries: int = 0) -> blocking.Server:
        return blocking.connect(self.address, token=self.people.tokens[name], retries=retries)


@pytest.fixture(scope="module", params=TRANSPORTS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("identities")
    people = People(folder / "identities.toml")
    people.add("root", *Scope)
    people.add("nobody")
    for scope in Scope:
        people.add(scope.value, scope)
    people.add("hasty", *Scope, rate=1, burst=2)
    people.add("narrow", *Scope, tickets=2)
    options = [f"--transport={request.param}", f"--identities={people.file}", "--health=closed"]
    arguments = [
        str(models.scale(folder)),
        str(models.slow(folder, steps=120)),
        *options,
        "--model-control",
        "--shared-memory",
    ]
    with Served([*arguments, F32], folder / "log") as served:
        guarded = Guarded(served, people)
        yield guarded
        guarded.channel.close()
        assert served.stop() == 0
        assert " ERROR " not in served.log
        assert {line.split()[3] for line in served.log.splitlines() if " WARNING " in line} <= {"headrace.requests:"}
        for token in people.tokens.values():
            assert token[4:20] not in served.log
            assert token[20:] not in served.log


class TestEveryRpc:
    def test_those_that_are_served_are_those_that_are_tested_and_each_has_a_scope(self, guarded: Guarded) -> None:
        """Asked of the server, so that a new one of any service is seen."""
        assert served_rpcs(guarded) == set(RPCS) == set(SCOPES)

    @pytest.mark.parametrize("rpc", RPCS)
    def test_none_answers_without_a_token_or_beyond_its_scope(self, guarded: Guarded, rpc: str) -> None:
        assert guarded.call(rpc) is grpc.StatusCode.UNAUTHENTICATED
        other, _ = new_token()
        right = guarded.people.tokens["root"]
        for wrong in (other, right[:20] + other[20:], right[:-1], "x"):
            code, details = guarded.ended(rpc, wrong)
            assert (code, details) == (grpc.StatusCode.UNAUTHENTICATED, "the token is not valid")
        needed = SCOPES[rpc]
        for name in ("nobody", *Scope):
            allowed = needed is None or name == needed
            code, details = guarded.ended(rpc, guarded.people.tokens[name])
            if allowed:
                assert code not in REFUSED, details
            else:
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert details.startswith(f"'{name}' may not call {rpc.rpartition('/')[2]}")
                assert f"the scope '{needed}'" in details
        assert guarded.call(rpc, "root") not in REFUSED


def served_rpcs(guarded: Guarded) -> set[str]:
    """All rpcs that the server describes."""
    messages = [reflection_pb2.ServerReflectionRequest(list_services="")]
    token = guarded.people.tokens["root"]

    def ask(*requests: reflection_pb2.ServerReflectionRequest) -> list[reflection_pb2.ServerReflectionResponse]:
        ended = call(guarded.channel, REFLECTION, *(each.SerializeToString() for each in requests), token=token)
        assert ended.code is grpc.StatusCode.OK
        return [reflection_pb2.ServerReflectionResponse.FromString(each) for each in ended.messages]

    (listed,) = ask(*messages)
    names = [service.name for service in listed.list_services_response.service]
    described = ask(*(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names))
    rpcs: set[str] = set()
    for each in described:
        for data in each.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            for service in file.service:
                full = f"{file.package}.{service.name}"
                rpcs |= {f"/{full}/{method.name}" for method in service.method if full in names}
    return rpcs


def test_health_is_open_unless_it_is_closed(serve: Serve, tmp_path: Path) -> None:
    people = People(tmp_path / "identities.toml")
    people.add("root", *Scope)
    guarded = Guarded(serve(models.scale(tmp_path), f"--identities={people.file}"), people)
    open_ = {rpc for rpc in RPCS if guarded.call(rpc) is not grpc.StatusCode.UNAUTHENTICATED}
    guarded.channel.close()
    assert open_ == {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    }


class TestRevoking:
    def test_open_streams_end_though_they_say_nothing_and_others_live_on(self, guarded: Guarded) -> None:
        before = guarded.served.log.count(AGAIN) + 1
        token = guarded.people.add("leaver", *Scope)
        guarded.served.wait_until_logged(AGAIN, before)
        metadata = (("authorization", f"Bearer {token}"),)
        streams = []
        for rpc, message in ((STREAM, pb.ClientFrame()), (TRITON, request(1)), (REFLECTION, _list_services())):
            open_: grpc.StreamStreamMultiCallable[bytes, bytes] = guarded.channel.stream_stream(rpc)
            streams.append(open_(held(message.SerializeToString()), timeout=120, metadata=metadata))
        for stream in streams:
            assert next(stream) is not None
        held_back: list[grpc.StreamUnaryMultiCallable[bytes, bytes]] = [
            guarded.channel.stream_unary(rpc) for rpc in (INFER, "/headrace.v1.Inference/ListModels")
        ]
        unary = [each.future(silent(), timeout=120, metadata=metadata) for each in held_back]
        watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = guarded.channel.unary_stream(WATCH)
        streams.append(watch(b"", timeout=120, metadata=metadata))
        assert next(streams[-1]) is not None
        with guarded.connect("root") as server, server.stream() as alive, guarded.connect("root") as second:
            assert alive.submit("scale", ONE).result()["y"].tolist() == [3]
            guarded.people.remove("leaver")
            guarded.served.wait_until_logged(AGAIN, before + 1)
            for stream in streams:
                with pytest.raises(grpc.RpcError) as ended:
                    list(stream)
                assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert ended.value.details() == "the token is not valid"
            for future in unary:
                assert future.code() is grpc.StatusCode.UNAUTHENTICATED
            assert guarded.call(INFER, token=token) is grpc.StatusCode.UNAUTHENTICATED
            assert alive.submit("scale", ONE).result()["y"].tolist() == [3]
            status = second.status()
            assert (status.streams, status.tickets_in_flight) == (1, 0)

    def test_the_tickets_of_a_stream_that_ends_fail_with_the_reason(self, guarded: Guarded) -> None:
        count = guarded.served.log.count(AGAIN) + 1
        guarded.people.add("worker", *Scope)
        guarded.served.wait_until_logged(AGAIN, count)
        with guarded.connect("worker") as server, server.stream() as stream:
            tickets = [stream.submit("slow", ONE) for _ in range(200)]
            guarded.people.remove("worker")
            guarded.served.wait_until_logged(AGAIN, count + 1)
            failures = []
            for ticket in tickets:
                try:
                    ticket.result()
                except hc.HeadraceError as error:
                    failures.append(error)
            assert failures
            assert {type(error) for error in failures} == {Unauthenticated}
            with pytest.raises(hc.HeadraceError):
                stream.submit("scale", ONE).result()

    def test_shared_memory_of_whoever_has_gone_is_not_kept(self, guarded: Guarded, tmp_path: Path) -> None:
        """Those of others are; and who comes back under the name finds nothing."""
        stub = GRPCInferenceServiceStub(guarded.channel)
        shared = Path("/dev/shm") / f"headrace-test-{uuid.uuid4().hex}"
        shared.write_bytes(bytes(64))

        def regions(name: str) -> set[str]:
            metadata = (("authorization", f"Bearer {guarded.people.tokens[name]}"),)
            return {*stub.SystemSharedMemoryStatus(all_, timeout=60, metadata=metadata).regions}

        all_ = oip.SystemSharedMemoryStatusRequest()
        count = guarded.served.log.count(AGAIN)
        try:
            for number, name in enumerate(("lodger", "owner"), 1):
                token = guarded.people.add(name, Scope.INFER)
                guarded.served.wait_until_logged(AGAIN, count + number)
                stub.SystemSharedMemoryRegister(
                    oip.SystemSharedMemoryRegisterRequest(name=f"of-{name}", key=f"/{shared.name}", byte_size=64),
                    timeout=60,
                    metadata=(("authorization", f"Bearer {token}"),),
                )
        finally:
            shared.unlink()
        assert (regions("lodger"), regions("owner"), opened(guarded, shared)) == ({"of-lodger"}, {"of-owner"}, 2)
        guarded.people.remove("lodger")
        guarded.served.wait_until_logged(AGAIN, count + 3)
        until(lambda: opened(guarded, shared) == 1)
        guarded.people.add("lodger", Scope.INFER)
        guarded.served.wait_until_logged(AGAIN, count + 4)
        assert (regions("lodger"), regions("owner")) == (set(), {"of-owner"})


def opened(guarded: Guarded, file: Path) -> int:
    """How many descriptors of a file the server has."""
    descriptors = Path(f"/proc/{guarded.served.process.pid}/fd").iterdir()
    found = []
    for descriptor in descriptors:
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(os.readlink(descriptor).startswith(str(file)))
    return sum(found)


def silent() -> Iterator[bytes]:
    """A client of a unary call that does not send its message."""
    threading.Event().wait(60)
    yield b""


def held(message: bytes) -> Iterator[bytes]:
    """Messages of a client that then neither sends nor half-closes."""
    yield message
    threading.Event().wait(60)


def _list_services() -> reflection_pb2.ServerReflectionRequest:
    return reflection_pb2.ServerReflectionRequest(list_services="")


class TestLimits:
    def test_over_the_rate_a_unary_call_is_told_when_to_come_back(self, guarded: Guarded) -> None:
        with guarded.connect("hasty") as server:
            for _ in range(2):
                server.infer("scale", ONE)
            with pytest.raises(ResourceExhausted, match=r"'hasty' may ask for 1 inferences a second, and 2") as failed:
                server.infer("scale", ONE)
            assert failed.value.retryable
            assert failed.value.retry_after is not None
            assert 0 < failed.value.retry_after <= 1
        with guarded.connect("hasty", retries=2) as patient:
            assert patient.infer("scale", ONE)["y"].tolist() == [3]
        with guarded.connect("root") as other:
            assert all(other.infer("scale", ONE)["y"].tolist() == [3] for _ in range(10))

    def test_over_the_rate_a_ticket_is_told_too(self, guarded: Guarded) -> None:
        with guarded.connect("hasty") as server, server.stream() as stream:
            tickets = [stream.submit("scale", ONE) for _ in range(5)]
            failures = []
            for ticket in tickets:
                try:
                    assert ticket.result()["y"].tolist() == [3]
                except ResourceExhausted as error:
                    failures.append(error)
            assert len(failures) >= 3
            for failed in failures:
                assert failed.retryable
                assert failed.retry_after is not None
                assert 0 < failed.retry_after <= 2

    def test_over_the_rate_a_stream_of_the_other_protocol_goes_on(self, guarded: Guarded) -> None:
        requests = [request(number).SerializeToString() for number in range(6)]
        ended = call(guarded.channel, TRITON, *requests, token=guarded.people.tokens["hasty"])
        assert ended.code is grpc.StatusCode.OK
        responses = [oip.ModelStreamInferResponse.FromString(each) for each in ended.messages]
        assert len(responses) == len(requests)
        refused = [number for number, each in enumerate(responses) if each.error_message]
        assert len(refused) >= 3
        for number, each in enumerate(responses):
            if number in refused:
                assert each.error_message.startswith("'hasty' may ask for 1 inferences a second")
                code = each.infer_response.parameters["grpc_status"].int64_param
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            else:
                assert each.infer_response.raw_output_contents == [answer(number)]

    def test_tickets_of_all_connections_count_together(self, guarded: Guarded) -> None:
        with (
            guarded.connect("narrow") as first,
            guarded.connect("narrow") as second,
            first.stream() as a,
            second.stream() as b,
            guarded.connect("root") as watcher,
        ):
            running = [each.submit("slow", ONE) for each in (a, b)]
            deadline = time.monotonic() + 60
            while watcher.status().tickets_in_flight < 2:
                assert time.monotonic() < deadline
            refused = [each.submit("scale", ONE) for each in (a, b)]
            for ticket in refused:
                with pytest.raises(ResourceExhausted, match="'narrow' has 2 tickets in flight"):
                    ticket.result()
            for ticket in running:
                ticket.cancel()
                with pytest.raises(hc.Cancelled):
                    ticket.result()
            assert b.submit("scale", ONE).result()["y"].tolist() == [3]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_certificate_says_who_calls(serve: Serve, tmp_path: Path, transport: str) -> None:
    authority = Authority(tmp_path / "ca")
    people = People(tmp_path / "identities.toml")
    people.add("camera.example", Scope.INFER)
    people.add("an operator", *Scope)
    options = [*authority.options("server", "127.0.0.1"), f"--tls-ca={authority.file}", f"--transport={transport}"]
    served = serve(models.scale(tmp_path), *options, "--identity-from=certificate", f"--identities={people.file}")
    with blocking.connect(served.address, tls=authority.client("camera.example")) as camera:
        with camera.stream() as stream:
            assert stream.submit("scale", ONE).result()["y"].tolist() == [3]
        with pytest.raises(PermissionDenied, match=r"'camera.example' may not call ServerStatus"):
            camera.status()
    certificate, key = authority.issue("operator", "10.0.0.1", common_name="an operator")
    tls = hc.Tls(ca=authority.file, certificate=certificate, key=key)
    with blocking.connect(served.address, tls=tls) as operator:
        assert operator.status().streams == 0
    with (
        blocking.connect(served.address, tls=authority.client("other.example")) as stranger,
        pytest.raises(Unauthenticated, match="no name of the client's certificate"),
    ):
        stranger.infer("scale", ONE)
