"""A client that sends unary calls when they are due, whatever becomes of them. Run as a process: it prints JSON.

It stands on the layer below grpc's synchronous client, since it has to send faster than the server answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headrace.oip import open_inference_pb2 as pb
from tests.bench.clients.completion_queue import Channel, unary_operations

METHOD = "/inference.GRPCInferenceService/ModelInfer"
PATIENCE_SECONDS = 60.0


@dataclass
class Sent:
    """How many calls were sent, have ended with each code, and were refused within a quarter of their timeout."""

    sent: int
    ended: dict[str, int]
    refused_early: int


def send(target: str, model: str, *, rate: float, seconds: float, timeout: float) -> Sent:
    """Run the client."""
    job = [target, model, str(rate), str(seconds), str(timeout)]
    command = [sys.executable, "-m", "tests.e2e.open_loop", *job]
    limit = seconds + PATIENCE_SECONDS
    return Sent(**json.loads(subprocess.run(command, capture_output=True, check=True, timeout=limit).stdout))


def main(target: str, model: str, rate: float, seconds: float, timeout: float) -> None:
    row = np.ones((1, 16), np.float32)
    tensor = pb.ModelInferRequest.InferInputTensor
    inputs = [tensor(name=name, datatype="FP32", shape=[1, 16]) for name in ("x", "y")]
    request = pb.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=[row.tobytes()] * 2)
    message = request.SerializeToString()
    channel = Channel(target)
    total = int(rate * seconds)
    ended: dict[str, int] = {}
    early = 0

    def start() -> None:
        began = time.monotonic()

        def done(event: Any) -> None:
            nonlocal early
            code = int(event.batch_operations[-1].code())
            ended[str(code)] = ended.get(str(code), 0) + 1
            early += code == 8 and time.monotonic() - began < timeout / 4

        channel.call(METHOD, (unary_operations(message), done), deadline=time.time() + timeout)

    def handle() -> None:
        while sum(ended.values()) < total:
            channel.turn()

    handler = threading.Thread(target=handle)
    handler.start()
    first = time.monotonic()
    for number in range(total):
        if (wait := first + number / rate - time.monotonic()) > 0.0:
            time.sleep(wait)
        start()
    handler.join()
    print(json.dumps(asdict(Sent(total, ended, early))))


if __name__ == "__main__":
    address, name, *numbers = sys.argv[1:]
    main(address, name, *map(float, numbers))
