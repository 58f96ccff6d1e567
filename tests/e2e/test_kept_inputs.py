"""Kept inputs and parts of kept outputs, with a real server: a frame crosses the wire once, crops not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

import headrace.client as hc
import headrace.client.blocking as blocking
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.serving import F32, Served
from tests.e2e.stubs import StubStream

Command = pb.Command
X = np.arange(16, dtype=np.float32).reshape(1, 16)
LARGE = np.arange(1 << 20, dtype=np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("kept_inputs")
    served = {
        "large": models.large_scale(folder),
        "scale": models.scale(folder),
        "am": models.add_multiply(folder),
        "one": models.static_add_multiply(folder),
        "wide": models.wide(folder),
        "strings": models.strings(folder),
        "slow": models.slow(folder),
    }
    paths = [f"{name}={path}" for name, path in served.items()]
    with Served([*paths, "--batch=32", "--slots=1", F32], folder / "log") as process:
        yield process


async def test_a_frame_feeds_two_models_and_is_sent_once(served: Served) -> None:
    async with hc.connect(served.address) as server, server.stream() as stream:
        for _ in range(3):
            first = await stream.submit("large", {"x": LARGE}, outputs=["y"], keep_inputs=["x"])
            second = await stream.submit("scale", {"x": first.take("x")}, outputs=["y"])
            third = await stream.submit("scale", {"x": first["x"]}, outputs=[])
            for ticket in (first, second):
                np.testing.assert_array_equal((await ticket)["y"], 2 * LARGE + 1)
            with pytest.raises(hc.FailedPrecondition, match=f"'x' of ticket {first.tag}"):
                await third
        kept = await stream.submit("large", {"x": LARGE}, outputs=[], keep_inputs=["x"])
        np.testing.assert_array_equal(await kept.fetch("x", slice=(7, 9)), [7, 8])
        assert (await server.status()).kept_bytes == LARGE.nbytes
        assert "keeps 'x'" in repr(kept)
        kept.release("x")
        with pytest.raises(KeyError):
            kept["x"]
        async with asyncio.timeout(30):
            while (await server.status()).kept_bytes:
                pass


async def test_crops_of_one_run_feed_a_model_of_batch_one(served: Served) -> None:
    rows = np.random.default_rng(0).random((20, 16), np.float32)
    async with hc.connect(served.address) as server, server.stream() as stream:
        find = await stream.submit("am", {"x": rows, "y": rows}, outputs=[], keep=["sum"], keep_inputs=["x"])
        early = []
        for at in range(20):
            crops = {"x": find["sum"][at : at + 1], "y": find["x"][19 - at : 20 - at]}
            early.append(await stream.submit("one", crops, outputs=["sum"]))
        for at, ticket in enumerate(early):
            np.testing.assert_array_equal((await ticket)["sum"], (2 * rows[at] + rows[19 - at])[np.newaxis])
        assert repr(stream).count("2 calls") == 1, "one of each model: parts do not define calls"
        last = await stream.submit("one", {"x": find["sum"][-1:], "y": find["x"][:][3:5][1:]}, outputs=["sum"])
        np.testing.assert_array_equal((await last)["sum"], (2 * rows[19] + rows[4])[np.newaxis])
        # Columns are no block of memory: copied, but just the same.
        wide = await stream.submit("wide", {"x": X}, outputs=[], keep=["large"])
        block = await stream.submit("one", {"x": wide["large"][500:501, 8:24], "y": X}, outputs=["sum"])
        column = await stream.submit("am", {"x": wide["large"][:10, 1000:1016], "y": X.repeat(10, 0)}, outputs=["sum"])
        np.testing.assert_array_equal((await block)["sum"], X.sum() + 500 + X)
        np.testing.assert_array_equal((await column)["sum"], X.sum() + np.arange(10)[:, np.newaxis] + X)


async def test_a_part_outside_of_its_output_fails_with_the_sentence_of_a_fetch(served: Served) -> None:
    async with hc.connect(served.address) as server, server.stream() as stream:
        source = await stream.submit("scale", {"x": X[0]}, outputs=[], keep=["y"])
        early = await stream.submit("scale", {"x": source["y"][15:17]})
        outside = "slice 15:17 does not lie inside axis 0 of size 16"
        with pytest.raises(hc.InvalidArgument, match=f"input 'x' takes the slice .* of ticket 1: {outside}"):
            await early
        with pytest.raises(hc.InvalidArgument, match=outside):
            await source.fetch("y", slice=(15, 17))
        with pytest.raises(hc.InvalidArgument, match=outside):
            source["y"][15:17]
        empty = await stream.submit("scale", {"x": source["y"][3:3]})
        assert (await empty)["y"].shape == (0,)


async def test_strings_are_kept_and_cut(served: Served) -> None:
    words = np.array([b"a", b"", "é".encode(), b"end\0"], object)
    async with hc.connect(served.address) as server, server.stream() as stream:
        first = await stream.submit("strings", {"x": words}, outputs=[], keep=["ends"], keep_inputs=["x"])
        second = await stream.submit("strings", {"x": first["x"][1:4]}, outputs=["same", "ends"], keep_inputs=["x"])
        assert (await second)["same"].tolist() == words[1:].tolist()
        first.release()
        assert (await second.fetch("x")).tolist() == words[1:].tolist()
        assert (await second.fetch("x", slice=(1, 3))).tolist() == words[2:].tolist()


async def test_inputs_of_a_shared_run_are_kept_by_ticket(served: Served) -> None:
    async with hc.connect(served.address) as server, server.stream() as stream:
        tickets = [
            await stream.submit("am", {"x": X + at, "y": hc.zeros((1, 16))}, outputs=["sum"], keep_inputs=["x", "y"])
            for at in range(200)
        ]
        for at, ticket in enumerate(tickets):
            np.testing.assert_array_equal((await ticket)["sum"], X + at)
        later = [
            await stream.submit("am", {"x": ticket.take("x"), "y": ticket["y"][0:1]}, outputs=["sum"])
            for ticket in tickets
        ]
        for at, ticket in enumerate(later):
            np.testing.assert_array_equal((await ticket)["sum"], X + at)
        np.testing.assert_array_equal(await tickets[7].fetch("y"), 0 * X)
        with pytest.raises(hc.NotFound):
            await tickets[7].fetch("x")
        executions = {model.name: model.executions for model in (await server.status()).models}
        assert executions["am"] < 400, "some shared a run"


async def test_what_a_failed_or_cancelled_ticket_would_have_kept(served: Served) -> None:
    one = np.ones(1, np.float32)
    async with hc.connect(served.address) as server:
        async with server.stream() as stream:
            slow = await stream.submit("slow", {"x": one}, keep_inputs=["x"])
            behind = await stream.submit("slow", {"x": slow["x"][0:1]}, keep_inputs=["x"])
            fetch = asyncio.create_task(slow.fetch("x"))
            await asyncio.sleep(0)
            slow.cancel()
            for ticket in (slow, behind):
                with pytest.raises((hc.Cancelled, hc.FailedPrecondition), match=f"ticket {slow.tag} "):
                    await ticket
            with pytest.raises(hc.NotFound):
                await fetch
            late = await stream.submit("slow", {"x": one}, keep_inputs=["x"], timeout=0.001)
            with pytest.raises(hc.DeadlineExceeded):
                await late
        async with asyncio.timeout(30):
            while (status := await server.status()).kept_bytes or status.queued_bytes:
                pass


def test_the_blocking_client_keeps_inputs_and_cuts_outputs(served: Served) -> None:
    with blocking.connect(served.address) as server, server.stream() as stream:
        first = stream.submit("scale", {"x": X[0]}, outputs=[], keep=["y"], keep_inputs=["x"])
        first.result(timeout=30)
        second = stream.submit("scale", {"x": first["y"][-2:]})
        third = stream.submit("scale", {"x": first.take("x")[:3]})
        assert second.result()["y"].tolist() == [59, 63]
        assert third.result()["y"].tolist() == [1, 3, 5]
        with pytest.raises(hc.NotFound):
            first.fetch("x")


def test_another_client_by_the_contract_alone(served: Served) -> None:
    tensors = [X.tobytes(), (X + 1).tobytes()]
    inline = [pb.Input(name=name, inline=pb.Inline(datatype=pb.FP32, shape=[1, 16])) for name in "xy"]
    referred = [pb.Input(name=name, reference=pb.Reference(output=output)) for name, output in ("xy", "yx")]
    keeping = pb.Call(model="am", inputs=inline, keep=["sum"], keep_inputs=["y", "x"])
    with StubStream(served.address) as stream:
        defines = (
            Command(kind=Command.DEFINE, call=1, define=keeping),
            Command(kind=Command.DEFINE, call=2, define=pb.Call(model="am", inputs=referred, outputs=["sum"])),
        )
        stream.send(*defines, Command(tag=1, call=1, tensors=2), tensors=tensors)
        event, _ = stream.receive()
        assert event.kind == pb.Event.DONE
        kept = stream.layouts[event.layout].kept
        assert [(tensor.name, [*tensor.shape]) for tensor in kept] == [(name, [1, 16]) for name in ("sum", "y", "x")]
        whole, row = pb.SourceSlices(), pb.SourceSlices(slices=[pb.Slice(stop=1)])
        stream.send(
            Command(kind=Command.INFER_SLICES, tag=2, call=2, sources=[1, 1], slices=[whole, row]),
            Command(kind=Command.INFER_SLICES, tag=3, call=2, sources=[1, 1], slices=[row]),
            Command(tag=4, call=2, sources=[1, 1]),
            Command(kind=Command.RELEASE, tag=1, release=pb.Release(outputs=["y"])),
            Command(tag=5, call=2, sources=[1, 1]),
        )
        ended = {event.tag: (event, outputs) for event, outputs in (stream.receive() for _ in range(4))}
        for tag in (2, 4):
            np.testing.assert_array_equal(ended[tag][1]["sum"], 2 * X + 1)
        assert ended[3][0].failure.message == "the Infer has 2 sources, but slices for 1"
        assert ended[5][0].failure.message == "input 'y' of ticket 1 is not kept any more"
    with grpc.insecure_channel(served.address) as channel, pytest.raises(grpc.RpcError) as refused:
        InferenceStub(channel).Infer(pb.InferRequest(call=keeping, tensors=tensors))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
