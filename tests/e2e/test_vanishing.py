"""Clients that vanish while they are being written to. This is not an error of the server, so nothing is in the log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import headrace.client.blocking as blocking
from tests import models
from tests.e2e.conftest import Serve

CLIENT = """
import asyncio, sys
import grpc, grpc.aio
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

inputs = [oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])]
WIDE = oip.ModelInferRequest(model_name="wide", inputs=inputs, raw_input_contents=[bytes(64)])
CALL = pb.Call(model="wide", all_outputs=True,
    inputs=[pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1, 16]))])

async def main():
    # Little is read: answers of 4 MiB wait at the server.
    channel = grpc.aio.insecure_channel(sys.argv[1], [("grpc.max_receive_message_length", -1)])
    triton, native = GRPCInferenceServiceStub(channel), InferenceStub(channel)
    calls = []
    for _ in range(5):
        stream = triton.ModelStreamInfer()
        calls.append(stream)
        for _ in range(10):
            await stream.write(WIDE)
        await stream.read()
        stream = native.Stream()
        calls.append(stream)
        await stream.write(pb.ClientFrame(commands=[
            pb.Command(kind=pb.Command.OPEN, open=pb.Open(max_message_bytes=1 << 30)),
            pb.Command(kind=pb.Command.DEFINE, call=1, define=CALL)]))
        for tag in range(1, 10):
            await stream.write(pb.ClientFrame(commands=[pb.Command(tag=tag, call=1, tensors=1)], tensors=[bytes(64)]))
        await stream.read()
        await stream.read()
        calls.append(HealthStub(channel).Watch(health_pb2.HealthCheckRequest()))
        await calls[-1].read()
    calls += [triton.ModelInfer(WIDE) for _ in range(20)]
    calls += [native.Infer(pb.InferRequest(call=CALL), ) for _ in range(5)]
    print("busy", flush=True)
    if sys.argv[2] == "cancels":
        for call in calls:
            call.cancel()
        await channel.close()
        print("cancelled", flush=True)
    else:
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["is killed", "cancels"])
def test_a_client_may_vanish_while_it_is_written_to(serve: Serve, tmp_path: Path, how: str) -> None:
    served = serve(str(models.wide(tmp_path)))
    for _ in range(4):
        command = [sys.executable, "-c", CLIENT, served.address, how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "busy\n"
            if how == "is killed":
                client.kill()
    with blocking.connect(served.address) as server:
        while (status := server.status()).streams or status.tickets_in_flight or status.queued_bytes:
            pass
    assert served.stop() == 0
    assert " ERROR " not in served.log
    assert "Traceback" not in served.log
    assert "never retrieved" not in served.log
