"""Connecting: why it fails, TLS, proxies, and how long it may take."""

import asyncio
import inspect
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import headrace.client as hc
import headrace.client.blocking as hb
from headrace.client.transport.connecting import explain
from headrace.v1 import inference_pb2 as pb
from tests.client.aio.scripted_server import (
    CA,
    CERTIFICATE,
    CERTIFICATES,
    KEY,
    Context,
    ScriptedServer,
    scripted_server,
    status,
)
from tests.client.protocol.tiny_server import TinyServer
from tests.stopwatch import Stopwatch

X = np.arange(4, dtype=np.float32)


def has_name_server() -> bool:
    """Whether somebody says that a host does not exist. On a machine without a network nobody does."""
    try:
        socket.getaddrinfo("nosuchhost.invalid", 1)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    return False


def server_credentials(*, mutual: bool) -> grpc.ServerCredentials:
    pair = (CERTIFICATES / "server.key").read_bytes(), (CERTIFICATES / "server.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], CA.read_bytes() if mutual else None, mutual)


@pytest.fixture
async def secure() -> AsyncIterator[ScriptedServer]:
    async with scripted_server(credentials=server_credentials(mutual=False)) as server:
        server.unary["ServerStatus"] = status
        server.automatic = True
        yield server


async def assert_usable(client: hc.Server) -> None:
    """Unary calls and streams work."""
    async with client, client.stream() as stream:
        assert (await client.status()).version == "7"
        np.testing.assert_array_equal((await (await stream.submit("m", {"x": X}, outputs=["y"])))["y"], X + 1)


# Why it fails


@pytest.mark.parametrize("target", ["127.0.0.1", "http://127.0.0.1:8001", "", "a b:1"])
@pytest.mark.parametrize("connect", [hc.connect, hb.connect])
def test_a_target_that_cannot_be_right_is_refused_at_once(connect: Any, target: str) -> None:
    with pytest.raises(ValueError, match="write HOST:PORT"):
        connect(target)


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("no..host:8001", "the host is unknown"),
        ("dns:///no..host:8001", "the host is unknown"),
        ("ipv4:1.2.3:80", "gRPC cannot use the address"),
    ],
)
async def test_what_waiting_cannot_mend_is_told_at_once(stopwatch: Stopwatch, target: str, cause: str) -> None:
    async with hc.connect(target, connect_timeout=30) as client:
        with pytest.raises(hc.Unavailable, match=f"no server answers at {target}: {cause}"):
            await client.models(timeout=30)
        with pytest.raises(hc.Unavailable, match=cause):
            async with client.stream():
                pytest.fail("it was opened")
    assert stopwatch.ran() < 5


async def test_a_host_that_a_name_server_does_not_know_is_told_at_once() -> None:
    if not await asyncio.to_thread(has_name_server):
        pytest.skip("no name server answers")
    async with hc.connect("nosuchhost.invalid:8001", connect_timeout=30) as client:
        async with asyncio.timeout(10):
            with pytest.raises(hc.Unavailable, match="the host is unknown"):
                await client.models()


async def test_what_waiting_may_mend_is_told_with_its_cause_when_the_time_is_over(tmp_path: Path) -> None:
    for target, cause in (("127.0.0.1:1", "was refused"), (f"unix:{tmp_path}/no", "there is no such socket")):
        async with hc.connect(target, connect_timeout=0.2) as client:
            with pytest.raises(hc.Unavailable, match=rf"\(tried for 0\.2 s\): .*{cause}"):
                await client.models()


def test_what_grpc_says_is_explained() -> None:
    assert explain("Method not found!") is None
    host = "address lookup failed for nosuchhost.invalid:8001: Domain name not found"
    assert explain(host) == ("the host is unknown", True)
    unknown = explain("failed to connect to all addresses; last error: UNKNOWN: something new")
    assert unknown == ("UNKNOWN: something new", False)


async def test_a_server_on_a_unix_socket_is_reached(tmp_path: Path) -> None:
    async with scripted_server(f"unix:{tmp_path}/s") as server:
        server.unary["ServerStatus"] = status
        server.automatic = True
        await assert_usable(hc.connect(server.target))


@pytest.mark.parametrize("target", ["models.example:8001", "dns:///models.example:8001"])
async def test_a_proxy_that_says_nothing_is_named(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with hc.connect(target, connect_timeout=0.3) as client:
            with pytest.raises(hc.Unavailable, match="through the proxy that http_proxy names"):
                await client.models()
        monkeypatch.setenv("no_proxy", "other.example, example")
        async with hc.connect(target, connect_timeout=0.3) as client:
            with pytest.raises(hc.Unavailable) as failed:
                await client.models()
            assert "proxy" not in failed.value.message


async def test_a_proxy_of_the_environment_does_not_swallow_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.unary["ServerStatus"] = status
    server.automatic = True
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3")
    await assert_usable(hc.connect(server.target))
    async with hc.connect("models.example:8001", connect_timeout=0.3) as client:
        with pytest.raises(
            hc.Unavailable, match=r"the proxy that http_proxy names; no_proxy=models\.example avoids it"
        ):
            await client.models()


@asynccontextmanager
async def slow_link(target: str, delay: float) -> AsyncIterator[tuple[str, list[asyncio.Task[None]]]]:
    """An address whose data takes so many seconds more to and from a server, and its connections."""
    connections: list[asyncio.Task[None]] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(delay)
            writer.write(data)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        host, port = target.split(":")
        there, away = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(relay(reader, away))
                tasks.create_task(relay(there, writer))
        finally:
            for end in (away, writer):
                end.close()
                await end.wait_closed()

    link = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with link:
        yield f"127.0.0.1:{link.sockets[0].getsockname()[1]}", connections
        for connection in connections:
            connection.cancel()
        await asyncio.wait(connections)


async def test_a_handshake_over_a_slow_link_is_waited_for(secure: ScriptedServer) -> None:
    tls = hc.Tls(ca=CA, server_name="server.test")
    async with slow_link(secure.target, 0.2) as (target, connections):
        async with hc.connect(target, tls=tls, connect_timeout=30) as client:
            assert (await client.status()).version == "7"
        assert len(connections) == 1  # no attempt was given up


# TLS


@pytest.mark.parametrize("ca", [str(CA), CA, CA.read_bytes()])
async def test_a_secure_server_is_reached(secure: ScriptedServer, ca: str | Path | bytes) -> None:
    await assert_usable(hc.connect(secure.target, tls=hc.Tls(ca=ca, server_name="server.test")))


async def test_the_blocking_client_takes_the_same(secure: ScriptedServer) -> None:
    def use() -> str:
        with hb.connect(secure.target, tls=hb.Tls(ca=CA, server_name="server.test"), token="t") as client:
            return client.status().version

    assert await asyncio.to_thread(use) == "7"
    assert secure.metadata[-1]["authorization"] == "Bearer t"


async def test_a_client_shows_its_certificate() -> None:
    async with scripted_server(credentials=server_credentials(mutual=True)) as server:
        server.unary["ServerStatus"] = status
        server.automatic = True
        tls = hc.Tls(ca=CA, certificate=CERTIFICATE, key=KEY.read_bytes(), server_name="server.test")
        await assert_usable(hc.connect(server.target, tls=tls))
        nothing = hc.Tls(ca=CA, server_name="server.test")
        async with hc.connect(server.target, tls=nothing, connect_timeout=0.3) as client:
            with pytest.raises(hc.Unavailable, match="it may want a client certificate"):
                await client.status()


@pytest.mark.parametrize(
    ("tls", "cause"),
    [
        (True, "the server's certificate is not trusted"),
        (CA, "the server's certificate is for another name"),
        (hc.Tls(ca=CA, certificate=CERTIFICATE, key=CERTIFICATES / "server.key"), "or its key cannot be used"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_told_at_once(
    secure: ScriptedServer, stopwatch: Stopwatch, tls: Any, cause: str
) -> None:
    async with hc.connect(secure.target, tls=tls, connect_timeout=30) as client:
        with pytest.raises(hc.Unavailable, match=cause):
            await client.status()
    assert stopwatch.ran() < 5


async def test_plain_text_and_tls_do_not_meet(secure: ScriptedServer, server: ScriptedServer) -> None:
    async with hc.connect(server.target, tls=CA, connect_timeout=30) as client:
        with pytest.raises(hc.Unavailable, match="the server does not speak TLS"):
            await client.status()
    async with hc.connect(secure.target, connect_timeout=0.3) as client:
        with pytest.raises(hc.Unavailable, match="it may want TLS"):
            await client.status()


@pytest.mark.parametrize(
    ("tls", "sentence"),
    [
        ("/no/such.pem", "the CA certificates in /no/such.pem cannot be read: No such file or directory"),
        (b"", "the CA certificates cannot be used: there is no PEM block 'CERTIFICATE'"),
        (KEY, "there is no PEM block 'CERTIFICATE'"),
        (hc.Tls(certificate=CERTIFICATE), "a certificate without a key"),
        (hc.Tls(certificate=CERTIFICATE, key=CERTIFICATE), "the key in .* there is no PEM block 'PRIVATE KEY'"),
    ],
)
def test_files_that_cannot_be_used_are_refused_at_once(tls: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        hc.connect("127.0.0.1:1", tls=tls)


def test_both_clients_connect_with_the_same_arguments() -> None:
    def parameters(function: Any) -> dict[str, Any]:
        return {name: (each.kind, each.default) for name, each in inspect.signature(function).parameters.items()}

    assert parameters(hc.connect) == parameters(hb.connect)
    for name in ("models", "model", "model_states", "load_model", "unload_model", "status", "infer", "stream"):
        assert parameters(getattr(hc.Server, name)) == parameters(getattr(hb.Server, name))


# Timeouts


@pytest.mark.parametrize("timeout", [0.2, np.float32(0.2)])
async def test_calls_have_a_timeout_of_their_own_and_one_of_the_connection(
    server: ScriptedServer, timeout: Any
) -> None:
    async def never(request: bytes, context: Context) -> bytes:
        await asyncio.Event().wait()
        return b""

    for method in ("ListModels", "DescribeModel", "ServerStatus", "LoadModel", "UnloadModel"):
        server.unary[method] = never
    async with hc.connect(server.target, timeout=timeout) as client:
        calls = (client.models(), client.model("m"), client.model_states(), client.status())
        for ends in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(ends, hc.DeadlineExceeded)
            assert "did not answer" in ends.message
            assert "within 0.2 s" in ends.message
    async with hc.connect(server.target, timeout=math.inf) as client:
        own = (
            client.models(timeout=timeout),
            client.model("m", timeout=timeout),
            client.model_states(timeout=timeout),
            client.status(timeout=timeout),
            client.load_model("m", timeout=timeout),
            client.unload_model("m", timeout=timeout),
        )
        ended = await asyncio.gather(*own, return_exceptions=True)
        assert [type(error) for error in ended] == [hc.DeadlineExceeded] * 6


@pytest.mark.parametrize("timeout", [math.inf, 9e9, np.float32(30), np.int64(30), 30])
async def test_any_number_is_a_timeout(server: ScriptedServer, timeout: Any) -> None:
    server.unary["ServerStatus"] = status
    server.automatic = True

    async def answer(data: bytes, context: Context) -> bytes:
        tensors = pb.InferRequest.FromString(data).tensors
        return pb.InferResponse(
            outputs=[pb.Tensor(name="y", datatype=pb.FP32, shape=[4])], tensors=tensors
        ).SerializeToString()

    server.unary["Infer"] = answer
    async with hc.connect(server.target, connect_timeout=timeout, timeout=timeout) as client, client.stream() as stream:
        assert (await client.status(timeout=timeout)).version == "7"
        np.testing.assert_array_equal((await client.infer("m", {"x": X}, timeout=timeout))["y"], X)
        ticket = await stream.submit("m", {"x": X}, outputs=["y"], timeout=timeout)
        np.testing.assert_array_equal((await ticket)["y"], X + 1)

    server.tiny = TinyServer()

    def use() -> None:
        with hb.connect(server.target, connect_timeout=timeout) as client, client.stream() as stream:
            ticket = stream.submit("m", {"x": X}, outputs=["y"], timeout=timeout)
            np.testing.assert_array_equal(ticket.result(timeout=timeout)["y"], X + 1)

    await asyncio.to_thread(use)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
def test_a_timeout_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a number of seconds"):
        hc.connect("127.0.0.1:1", **{name: math.nan})  # type: ignore[arg-type]  # mypy tries each keyword
    with pytest.raises(TypeError, match=f"{name} is '5'; it must be a number of seconds"):
        hc.connect("127.0.0.1:1", **{name: "5"})  # type: ignore[arg-type]  # what a user may write


def test_patience_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="patience is not a number of seconds"):
        hc.connect("127.0.0.1:1").stream(resume=True, patience=math.nan)


async def test_a_server_that_accepts_and_says_nothing_is_given_up(stopwatch: Stopwatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        async with hc.connect(target, connect_timeout=0.3) as client:
            stopwatch.start()
            with pytest.raises(hc.Unavailable, match=r"tried for 0\.3 s"):
                await client.models()
            assert stopwatch.ran() < 2
