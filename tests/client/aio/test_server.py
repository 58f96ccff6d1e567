"""Connecting, unary calls, and descriptions of models and of the server."""

import asyncio

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.v1 import inference_pb2 as pb
from tests.client.aio.scripted_server import Context, ScriptedServer, scripted_server
from tests.client.turns import turns
from tests.stopwatch import Stopwatch

X = np.arange(4, dtype=np.float32)
PORT = pb.Port(
    name="x",
    names=["x", "x:0"],
    datatype=pb.FP32,
    shape=[
        pb.Dimension(min=2, max=2),
        pb.Dimension(min=0, max=-1),
        pb.Dimension(min=1, max=-1),
        pb.Dimension(min=1, max=8),
    ],
)
DESCRIPTION = pb.ModelDescription(
    name="m",
    version="3",
    inputs=[PORT],
    outputs=[pb.Port(name="y", datatype=pb.BYTES, any_rank=True)],
    has_variables=True,
    slots=4,
)


def refuse(server: ScriptedServer, method: str, code: grpc.StatusCode, details: str) -> None:
    async def answer(request: bytes, context: Context) -> bytes:
        await context.abort(code, details)

    server.unary[method] = answer


async def test_models_are_described(server: ScriptedServer, client: hc.Server) -> None:
    async def answer(request: bytes, context: Context) -> bytes:
        return pb.ListModelsResponse(models=[DESCRIPTION]).SerializeToString()

    server.unary["ListModels"] = answer
    (model,) = await client.models()
    assert (model.name, model.version, model.slots, model.has_variables) == ("m", "3", 4, True)
    assert model.inputs[0].shape == (2, None, (1, None), (1, 8))
    assert model.inputs[0].datatype == "FP32"
    assert model.inputs[0].names == ("x", "x:0")
    assert model.outputs[0].shape is None
    assert str(model) == "m 3: x FP32[2,?,1..,1..8] -> y BYTES[any rank]"


async def test_states_are_told(server: ScriptedServer, client: hc.Server) -> None:
    async def answer(request: bytes, context: Context) -> bytes:
        states = [pb.ModelState(name="m", version="3", state=pb.ModelState.READY), pb.ModelState(name="n", reason="no")]
        return pb.ListModelsResponse(states=states).SerializeToString()

    server.unary["ListModels"] = answer
    assert await client.model_states() == [
        hc.ModelState("m", "3", "READY", ""),
        hc.ModelState("n", "", "UNAVAILABLE", "no"),
    ]


async def test_models_are_loaded_and_unloaded_by_name(server: ScriptedServer, client: hc.Server) -> None:
    asked: list[str] = []

    async def load(request: bytes, context: Context) -> bytes:
        asked.append("load " + pb.LoadModelRequest.FromString(request).name)
        return b""

    async def unload(request: bytes, context: Context) -> bytes:
        asked.append("unload " + pb.UnloadModelRequest.FromString(request).name)
        return b""

    server.unary.update(LoadModel=load, UnloadModel=unload)
    await client.load_model("m")
    await client.unload_model("n")
    assert asked == ["load m", "unload n"]
    refuse(server, "LoadModel", grpc.StatusCode.PERMISSION_DENIED, "no")
    with pytest.raises(hc.PermissionDenied, match="no"):
        await client.load_model("m")


async def test_a_model_is_described(server: ScriptedServer, client: hc.Server) -> None:
    async def answer(request: bytes, context: Context) -> bytes:
        asked = pb.DescribeModelRequest.FromString(request)
        assert (asked.name, asked.version) == ("m", "3")
        return DESCRIPTION.SerializeToString()

    server.unary["DescribeModel"] = answer
    assert (await client.model("m", "3")).name == "m"


async def test_the_status_is_described(server: ScriptedServer, client: hc.Server) -> None:
    model = pb.ModelStatus(
        name="m", version="1", slots_free=2, tickets_queued=7, inferences=9, failures=1, executions=4
    )
    memory = pb.Account(name="memory", used_bytes=7, limit_bytes=9)
    said = pb.ServerStatusResponse(
        version="0.1", streams=3, kept_bytes=5, models=[model], memory=memory, accounts=[memory], resident_bytes=11
    )
    said.loop_lag_us = 1500

    async def answer(request: bytes, context: Context) -> bytes:
        return said.SerializeToString()

    server.unary["ServerStatus"] = answer
    status = await client.status()
    assert (status.version, status.streams, status.kept_bytes) == ("0.1", 3, 5)
    account = hc.Account("memory", 7, 9)
    assert (status.memory, status.accounts, status.resident_bytes) == (account, (account,), 11)
    assert status.loop_lag == pytest.approx(0.0015)
    (known,) = status.models
    assert (known.slots_free, known.tickets_queued) == (2, 7)
    assert (known.inferences, known.failures, known.executions) == (9, 1, 4)


async def test_an_inference_by_itself_returns_its_outputs(server: ScriptedServer, client: hc.Server) -> None:
    async def answer(data: bytes, context: Context) -> bytes:
        request = pb.InferRequest.FromString(data)
        assert request.call.outputs == ["why", "s"]
        assert not request.call.all_outputs
        assert (request.call.model, request.call.version) == ("m", "2")
        assert (request.timeout_us, request.priority) == (5_000_000, 4)
        assert request.call.inputs[1].zeros.shape == [2]
        assert context.time_remaining() < 6
        outputs = [
            pb.Tensor(name="y", datatype=pb.FP32, shape=[4]),
            pb.Tensor(name="s", datatype=pb.BYTES),
        ]
        tensors = [request.tensors[0], b"\x02\0\0\0hi"]
        return pb.InferResponse(outputs=outputs, tensors=tensors).SerializeToString()

    server.unary["Infer"] = answer
    out = await client.infer(
        "m",
        {"x": X, "h": hc.zeros(2)},
        outputs=["why", "s"],
        version="2",
        timeout=5,
        priority=4,
    )
    assert list(out) == ["why", "s"]
    np.testing.assert_array_equal(out["why"], X)
    assert out["s"].item() == b"hi"


async def test_an_inference_by_itself_may_be_large(server: ScriptedServer, client: hc.Server) -> None:
    async def answer(data: bytes, context: Context) -> bytes:
        request = pb.InferRequest.FromString(data)
        shape = request.call.inputs[0].inline.shape
        tensor = pb.Tensor(name="y", datatype=pb.FP32, shape=shape)
        return pb.InferResponse(outputs=[tensor], tensors=request.tensors).SerializeToString()

    server.unary["Infer"] = answer
    x = np.random.default_rng(1).random((1000, 300), np.float32)
    np.testing.assert_array_equal((await client.infer("m", {"x": x}))["y"], x)


@pytest.mark.parametrize(
    ("code", "error", "retryable"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, hc.InvalidArgument, False),
        (grpc.StatusCode.NOT_FOUND, hc.NotFound, False),
        (grpc.StatusCode.FAILED_PRECONDITION, hc.FailedPrecondition, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, hc.ResourceExhausted, True),
        (grpc.StatusCode.UNAVAILABLE, hc.Unavailable, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, hc.DeadlineExceeded, False),
        (grpc.StatusCode.UNKNOWN, hc.Internal, False),
        (grpc.StatusCode.UNIMPLEMENTED, hc.Unimplemented, False),
    ],
)
async def test_a_status_becomes_an_error(
    server: ScriptedServer,
    client: hc.Server,
    code: grpc.StatusCode,
    error: type[hc.HeadraceError],
    retryable: bool,
) -> None:
    refuse(server, "Infer", code, "a sentence")
    with pytest.raises(error, match="a sentence") as caught:
        await client.infer("m", {"x": X})
    assert type(caught.value) is error
    assert caught.value.retryable is retryable


async def test_an_inference_by_itself_has_a_deadline(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async def answer(data: bytes, context: Context) -> bytes:
        await asyncio.Event().wait()
        return b""

    server.unary["Infer"] = answer
    with pytest.raises(hc.DeadlineExceeded):
        await client.infer("m", {"x": X}, timeout=0.1)


EXTRA = pb.InferResponse(tensors=[b"1"])


@pytest.mark.parametrize("answer", [b"\xff\xff", EXTRA.SerializeToString()])
async def test_a_response_that_breaks_the_contract_is_internal(
    server: ScriptedServer,
    client: hc.Server,
    answer: bytes,
) -> None:
    async def say(data: bytes, context: Context) -> bytes:
        return answer

    server.unary["Infer"] = say
    with pytest.raises(hc.Internal, match="the server broke the protocol"):
        await client.infer("m", {"x": X})


async def test_references_need_a_stream(client: hc.Server) -> None:
    with pytest.raises(hc.InvalidArgument, match="input 'x' is a reference"):
        await client.infer("m", {"x": hc.Reference(None, 1, "z")})


async def test_a_server_without_our_service_is_named(server: ScriptedServer, client: hc.Server) -> None:
    with pytest.raises(hc.Unimplemented, match=r"does not serve headrace.v1.Inference"):
        await client.models()


async def test_an_unreachable_server_is_named_soon(stopwatch: Stopwatch) -> None:
    async with hc.connect("127.0.0.1:1", connect_timeout=0.3) as client:
        with pytest.raises(hc.Unavailable, match=r"127\.0\.0\.1:1 ") as caught:
            await client.models()
        assert caught.value.retryable
        with pytest.raises(hc.Unavailable, match=r"127\.0\.0\.1:1 "):
            async with client.stream():
                pytest.fail("it was opened")
        with pytest.raises(hc.Unavailable, match=r"127\.0\.0\.1:1 "):
            await client.infer("m", {"x": X}, timeout=0.1)
    assert stopwatch.ran() < 5


async def test_a_server_that_starts_while_connecting_is_found() -> None:
    async with scripted_server() as server:
        target = server.target
    client = hc.connect(target)
    stream = client.stream()
    opening = asyncio.create_task(stream.__aenter__())
    late = ScriptedServer()
    late.automatic = True
    await late.start(target)
    await opening
    await stream.__aexit__(None, None, None)
    await client.close()
    await late.stop()


async def test_a_closed_server_cannot_be_used(server: ScriptedServer) -> None:
    server.automatic = True
    client = hc.connect(server.target)
    assert repr(client) == f"<Server at {server.target}, idle>"
    async with client.stream():
        assert repr(client) == f"<Server at {server.target}, open>"
    await client.close()
    await client.close()
    assert repr(client) == f"<Server at {server.target}, closed>"
    with pytest.raises(RuntimeError, match="was closed"):
        await client.models()


async def test_closing_cancels_a_call_under_way(server: ScriptedServer) -> None:
    started = asyncio.Event()

    async def answer(data: bytes, context: Context) -> bytes:
        started.set()
        await asyncio.Event().wait()
        return b""

    server.unary["ListModels"] = answer
    client = hc.connect(server.target)
    task = asyncio.create_task(client.models())
    await started.wait()
    await client.close()
    with pytest.raises(hc.Cancelled, match="connection was closed"):
        await task


async def test_closing_cancels_connecting() -> None:
    client = hc.connect("127.0.0.1:1")
    task = asyncio.create_task(client.models())
    await turns()
    await client.close()
    with pytest.raises(hc.Cancelled, match="connection was closed"):
        await task


async def test_cancelling_the_task_of_a_call_raises_cancelled_error(server: ScriptedServer, client: hc.Server) -> None:
    started = asyncio.Event()

    async def answer(data: bytes, context: Context) -> bytes:
        started.set()
        await asyncio.Event().wait()
        return b""

    server.unary["ListModels"] = answer
    task = asyncio.create_task(client.models())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_message_limit_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 65536"):
        hc.connect("127.0.0.1:1", max_message_bytes=65535)
