"""tritonclient against an address with TLS: one unary inference, and a stream of them. A process of its own, since its
stubs and those of a server have the same symbols.

    python -m tests.scale.triton_calls ADDRESS CA COUNT
"""

from __future__ import annotations

import json
import sys
from queue import SimpleQueue
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput


def main(address: str, ca: str, count: int) -> None:
    """Print what was answered: as JSON, the unary number, and those of the stream with their ids."""
    client = InferenceServerClient(address, ssl=True, root_certificates=ca)
    assert client.is_server_ready()
    assert client.is_model_ready("scale")
    unary = client.infer("scale", [number(1)]).as_numpy("y").tolist()
    answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for each in range(count):
        client.async_stream_infer("scale", [number(each)], request_id=str(each))
    found = []
    for _ in range(count):
        result, error = answers.get(timeout=60)
        assert error is None, error
        found.append([result.get_response().id, result.as_numpy("y").tolist()])
    client.stop_stream()
    client.close()
    print(json.dumps({"unary": unary, "stream": found}))


def number(value: int) -> InferInput:
    given = InferInput("x", [1], "FP32")
    given.set_data_from_numpy(np.full(1, value, np.float32))
    return given


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
