"""The Open Inference Protocol, with one inference a message: clients that are not ours."""

from __future__ import annotations

import numpy as np

from headrace.oip import open_inference_pb2 as pb
from tests.bench.cases.case import Case, Setting
from tests.bench.cases.echoes import raw_echo
from tests.bench.cases.small_models import ADD_MULTIPLY
from tests.bench.measuring.bounds import NO_BOUND, Bound
from tests.bench.measuring.turn import Turn
from tests.bench.serving.server import Server

ROW = np.ones((1, 16), np.float32)
SUM = ROW + ROW
METHODS = {"unary": "ModelInfer", "stream": "ModelStreamInfer"}
EARLIER_SERVER_TIME = {"unary": 1.7, "stream": 2.4}
"""Of a server on grpc.aio in pure Python, over the echo's: 360 and 165 us, where the echo took 210 and 70."""


def add_multiply_request() -> bytes:
    """A ModelInferRequest for the output `sum`."""
    tensor = pb.ModelInferRequest.InferInputTensor
    return pb.ModelInferRequest(
        model_name="am",
        inputs=[tensor(name=name, datatype="FP32", shape=[1, 16]) for name in ("x", "y")],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="sum")],
        raw_input_contents=[ROW.tobytes()] * 2,
    ).SerializeToString()


def _case(kind: str, in_flight: int) -> Case:
    processes = min(in_flight, 2)
    message = add_multiply_request()

    def turn(setting: Setting, server: Server) -> Turn:
        return server.turn(
            f"clients.raw_{kind}",
            setting.seconds,
            processes=processes,
            method=f"/inference.GRPCInferenceService/{METHODS[kind]}",
            message=message.hex(),
            answer=SUM.tobytes().hex(),
            in_flight=in_flight // processes,
        )

    judged = in_flight == 32
    stream = kind == "stream"
    return Case(
        f"{kind}-{in_flight}",
        f"{METHODS[kind]}, {in_flight} in flight",
        ADD_MULTIPLY,
        turn,
        reference=raw_echo(kind, message, in_flight, processes),
        bound=NO_BOUND if not judged else Bound(1.0, 1.3) if stream else Bound(1.4, 2.0),
        compiled=Bound(1.15, 1.4) if judged else NO_BOUND,
        earlier_server_time=EARLIER_SERVER_TIME[kind] if judged else None,
        server_time=Bound(0.65, 0.45, less=True) if stream else Bound(0.5, 0.3, less=True),
        rounds=7 if judged else 3,
    )


CASES = [_case(kind, in_flight) for kind in METHODS for in_flight in (1, 8, 32)]
