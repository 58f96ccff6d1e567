"""Descriptions of models are asked for in the background, once; only what depends on one waits for it."""

import asyncio

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.client.aio import descriptions
from headrace.v1 import inference_pb2 as pb
from tests.client.aio.scripted_server import Context, ScriptedServer

X = np.arange(4, dtype=np.float32)


class Describing:
    """Describes every model with the input x, once it may."""

    def __init__(self, server: ScriptedServer) -> None:
        self.asked: list[tuple[str, str]] = []
        self.heard = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.refuses = False
        self.datatype: pb.Datatype.ValueType = pb.FP32
        server.automatic = True
        server.unary["DescribeModel"] = self._describe

    async def _describe(self, request: bytes, context: Context) -> bytes:
        asked = pb.DescribeModelRequest.FromString(request)
        self.asked.append((asked.name, asked.version))
        self.heard.set()
        await self.may_answer.wait()
        if self.refuses:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        x = pb.Port(name="x", datatype=self.datatype, shape=[pb.Dimension(max=-1)])
        outputs = [pb.Port(name=name, datatype=self.datatype, any_rank=True) for name in ("y", "z")]
        return pb.ModelDescription(name=asked.name, version="1", inputs=[x], outputs=outputs).SerializeToString()


@pytest.fixture
def describing(server: ScriptedServer) -> Describing:
    return Describing(server)


async def test_the_first_submits_do_not_wait_for_a_description(describing: Describing, client: hc.Server) -> None:
    async with client.stream() as stream:
        for size in range(1, 5):
            outputs = await (await stream.submit("m", {"x": X[:size]}))
            assert outputs["y"].shape == (size,)
        assert describing.asked == [("m", "")]
        describing.may_answer.set()
        # What depends on it waits, and joins the question that was asked.
        assert (await (await stream.submit("m", {"x": [1, 2]})))["y"].dtype == np.float32
        wrong = await stream.submit("m", {"w": X}, keep=["z"])
        assert wrong.ended  # nothing was sent
        assert repr(wrong) == f"<Ticket {wrong.tag} of model 'm': failed, INVALID_ARGUMENT>"
        with pytest.raises(hc.InvalidArgument, match="has no input 'w'; it has 'x'"):
            await wrong
        # What refers to it fails as if it had been sent.
        with pytest.raises(hc.FailedPrecondition):
            await (await stream.submit("m", {"x": wrong["z"]}))
        wrong.cancel()
        wrong.release()
        # Asked again before the inputs were called wrong, and not again for what is right.
        assert describing.asked == [("m", "")] * 2
        await asyncio.gather(*[await stream.submit("m", {"x": [number] * number}) for number in range(9)])
        assert len(describing.asked) == 2


async def test_versions_are_described_each(describing: Describing, client: hc.Server) -> None:
    describing.may_answer.set()
    async with client.stream() as stream:
        for version in (None, 1, "1", 2, None):
            await (await stream.submit("m", {"x": [1]}, version=version))
    assert describing.asked == [("m", ""), ("m", "1"), ("m", "2")]


async def test_a_server_that_does_not_describe_decides_by_itself(describing: Describing, client: hc.Server) -> None:
    describing.refuses = True
    describing.may_answer.set()
    async with client.stream() as stream:
        for _ in range(3):
            assert (await (await stream.submit("m", {"x": [1, 2]})))["y"].dtype == np.int64
            assert (await (await stream.submit("m", {"x": np.ones(2)})))["y"].dtype == np.float64
    assert len(describing.asked) == 1  # it is not asked for each inference


async def test_a_description_that_does_not_come_is_not_waited_for_long(
    describing: Describing, client: hc.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "ASK_TIMEOUT", 0.05)
    async with client.stream() as stream, asyncio.timeout(30):
        assert (await (await stream.submit("m", {"x": [1, 2]})))["y"].dtype == np.int64
    describing.may_answer.set()


async def test_submitting_may_be_cancelled_while_it_waits_for_a_description(
    describing: Describing, client: hc.Server
) -> None:
    async with client.stream() as stream:
        waiting = asyncio.create_task(stream.submit("m", {"x": [1, 2]}))
        await describing.heard.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert stream.in_flight == 0
        describing.may_answer.set()
        assert (await (await stream.submit("m", {"x": [1, 2]})))["y"].dtype == np.float32
        assert len(describing.asked) == 1


async def test_a_connection_may_be_closed_while_it_asks(describing: Describing, server: ScriptedServer) -> None:
    async with hc.connect(server.target) as client, client.stream() as stream:
        await (await stream.submit("m", {"x": X}))
        await describing.heard.wait()
    # Nothing is left that warns when the test ends.
