"""Callers use what `connect` takes: TLS, a token, metadata and several addresses."""

from __future__ import annotations

import pickle
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.client.load.callers.caller import Request
from headrace.client.load.callers.connect import connect_callers, describe_model
from headrace.client.load.callers.departure import Departure
from headrace.client.load.record.run import Mode
from headrace.client.protocol.connection_settings import ConnectionSettings, Tls
from headrace.client.terminal.server_options import Security, TokenFile, check_target, connection_settings
from headrace.client.terminal.usage_error import UsageError
from headrace.client.transport.credentials import read_tls
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Unauthenticated
from tests.client.aio.scripted_server import Context, ScriptedServer, scripted_server

CERTIFICATES = Path(__file__).parents[2] / "certificates"
INPUTS = {"x": np.arange(4, dtype=np.float32)}


def credentials() -> grpc.ServerCredentials:
    pair = (CERTIFICATES / "server.key").read_bytes(), (CERTIFICATES / "server.pem").read_bytes()
    return grpc.ssl_server_credentials([pair])


def serve(server: ScriptedServer) -> None:
    async def infer(message: bytes, _: Context) -> bytes:
        tensor = pb.Tensor(name="y", datatype=pb.FP32, shape=[1])
        return pb.InferResponse(outputs=[tensor], tensors=[b"1234"]).SerializeToString()

    async def describe(message: bytes, _: Context) -> bytes:
        return pb.ModelDescription(name="m", version="1").SerializeToString()

    async def status(message: bytes, _: Context) -> bytes:
        return pb.ServerStatusResponse(version="0.1").SerializeToString()

    server.unary.update(Infer=infer, DescribeModel=describe, ServerStatus=status)
    server.automatic = True


@pytest.mark.parametrize("mode", ["stream", "unary"])
async def test_requests_are_secured_and_spread(mode: Mode, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    async with (
        scripted_server(credentials=credentials()) as first,
        scripted_server(credentials=credentials()) as second,
    ):
        for server in (first, second):
            serve(server)
        settings = ConnectionSettings(
            target=f"{first.target},{second.target}",
            tls=read_tls(Tls(ca=CERTIFICATES / "ca.pem", server_name="server.test")),
            token=TokenFile(token),
        )
        settings = pickle.loads(pickle.dumps(settings))  # as on its way to a process of the load test
        assert (await describe_model(settings, "headrace", "m", ""))[0].name == "m"
        async with connect_callers(settings, "headrace", mode, 2, 8, Request("m", "")) as callers:
            for caller in callers:
                answer = await caller.call(INPUTS, Departure())
                assert answer.code == 0, answer.message
        for server in (first, second):
            assert {each["authorization"] for each in server.metadata} == {"Bearer t0ken"}


def test_the_token_is_read_again_when_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / "token", [100.0]
    monkeypatch.setattr("headrace.client.terminal.server_options.time.monotonic", lambda: now[0])
    path.write_text("first")
    token = TokenFile(path)
    assert token() == "first"
    path.write_text("second")
    assert token() == "first"
    now[0] += 1.0
    assert token() == "second"
    path.unlink()
    now[0] += 1.0
    with pytest.raises(Unauthenticated, match="cannot be read: No such file"):
        token()


@pytest.mark.parametrize(
    ("security", "sentence"),
    [
        (Security(tls_ca=Path("/no/such.pem")), "CA certificates in /no/such.pem cannot be read"),
        (Security(token_file=Path("/no/token")), "the token in /no/token cannot be read"),
    ],
)
def test_files_of_the_command_that_cannot_be_used_are_named(security: Security, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        connection_settings("127.0.0.1:1", security)


def test_the_command_takes_what_connect_takes(tmp_path: Path) -> None:
    check_target(str, "a:8001,b:8001")
    with pytest.raises(ValueError, match="write HOST:PORT"):
        check_target(str, "localhost")
    assert connection_settings("a:1", Security()).tls is None
    assert connection_settings("a:1", Security(tls=True)).tls == Tls()
    secured = connection_settings("a:1", Security(tls_ca=CERTIFICATES / "ca.pem"))
    assert secured.tls == Tls(ca=(CERTIFICATES / "ca.pem").read_bytes())


def test_users_of_one_connection_begin_at_every_address() -> None:
    settings = ConnectionSettings(target="a:1,b:1,c:1")
    first = [str(settings.beginning_at(number).first_address) for number in range(4)]
    assert first == ["a:1", "b:1", "c:1", "a:1"]
    of_process = settings.beginning_at(2)
    assert [str(of_process.beginning_at(number).first_address) for number in range(3)] == ["c:1", "a:1", "b:1"]
