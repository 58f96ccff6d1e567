"""Inferences of a few models as bytes, by both protocols, and their right answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import grpc
import numpy as np

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub

INFER = "/headrace.v1.Inference/Infer"
STREAM = "/headrace.v1.Inference/Stream"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
MODEL_STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

Command, Event = pb.Command, pb.Event


def infer(number: float, model: str = "scale") -> bytes:
    """An InferRequest of a model with x: f32[1]."""
    call = pb.Call(model=model, inputs=[_input(1)], all_outputs=True)
    return pb.InferRequest(call=call, tensors=[_f32(number)]).SerializeToString()


def infer_answer(reply: bytes) -> float:
    (tensor,) = pb.InferResponse.FromString(reply).tensors
    return float(np.frombuffer(tensor, np.float32)[0])


def model_infer(number: float, model: str = "scale", request_id: str = "") -> bytes:
    """A ModelInferRequest of a model with x: f32[1]."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])
    request = oip.ModelInferRequest(model_name=model, id=request_id, inputs=[tensor], raw_input_contents=[_f32(number)])
    return request.SerializeToString()


def model_infer_answer(reply: bytes) -> float:
    return _only_output(oip.ModelInferResponse.FromString(reply))


def stream_answer(reply: bytes) -> tuple[str, float]:
    """The id and the number of a response of ModelStreamInfer."""
    response = oip.ModelStreamInferResponse.FromString(reply)
    assert response.error_message == ""
    return response.infer_response.id, _only_output(response.infer_response)


def large_infer(elements: int, number: float = 1) -> bytes:
    """A ModelInferRequest of `scale` with as many numbers."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[elements])
    data = np.full(elements, number, np.float32).tobytes()
    return oip.ModelInferRequest(model_name="scale", inputs=[tensor], raw_input_contents=[data]).SerializeToString()


def large_answer(reply: bytes) -> list[float]:
    """The different numbers of the only output."""
    (data,) = oip.ModelInferResponse.FromString(reply).raw_output_contents
    found: list[float] = np.unique(np.frombuffer(data, np.float32)).tolist()
    return found


def definition(model: str = "scale") -> pb.Command:
    """Defines call 1: an inference of a model with x: f32[1]."""
    call = pb.Call(model=model, inputs=[_input(1)], all_outputs=True)
    return Command(kind=Command.DEFINE, call=1, define=call)


def frame(*numbers: float, first_tag: int = 1, define: bool = False, model: str = "scale") -> bytes:
    """A ClientFrame with an inference of each number, tagged one after the other."""
    commands = [definition(model)] if define else []
    commands += [Command(tag=tag, call=1, tensors=1) for tag, _ in enumerate(numbers, first_tag)]
    return pb.ClientFrame(commands=commands, tensors=map(_f32, numbers)).SerializeToString()


def events(reply: bytes) -> tuple[list[pb.Event], list[float]]:
    """What a ServerFrame says, layouts apart, and the first number of each of its tensors."""
    parsed = pb.ServerFrame.FromString(reply)
    numbers = [float(np.frombuffer(tensor, np.float32)[0]) for tensor in parsed.tensors]
    return [event for event in parsed.events if event.kind != Event.LAYOUT], numbers


class Bystander:
    """Another client of a server, which must be served whatever anybody does, and the server as it sees it.

    `patience` is how many seconds it waits for an answer, or for what must come to be.
    """

    def __init__(self, address: str, patience: float = 20) -> None:
        self._patience = patience
        self.channel = grpc.insecure_channel(address)
        self._stub = InferenceStub(self.channel)
        self._infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(MODEL_INFER)
        self._numbers = count(1)

    def is_served(self) -> float:
        """Assert that a request is answered with the right number. Returns the seconds that it took."""
        number = next(self._numbers)
        begin = time.monotonic()
        reply = self._infer(model_infer(number), timeout=self._patience)
        assert model_infer_answer(reply) == 2 * number + 1
        return time.monotonic() - begin

    def status(self) -> pb.ServerStatusResponse:
        return self._stub.ServerStatus(pb.ServerStatusRequest(), timeout=self._patience)

    def until(
        self, condition: Callable[[pb.ServerStatusResponse], bool], seconds: float | None = None
    ) -> pb.ServerStatusResponse:
        """The first status that meets the condition."""
        deadline = time.monotonic() + (self._patience if seconds is None else seconds)
        while not condition(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.005)
        return status

    def until_running(self, model: str) -> None:
        """Until a slot of the model runs."""
        self.until(lambda status: any(each.slots_running for each in status.models if each.name == model))

    def until_idle(self) -> None:
        """Until all that clients have taken is back: streams, tickets, slots and bytes."""
        self.until(is_idle)


def is_idle(status: pb.ServerStatusResponse) -> bool:
    return not (
        status.streams
        or status.tickets_in_flight
        or status.kept_bytes
        or status.queued_bytes
        or any(each.slots_running or each.slots_stopping or each.tickets_queued for each in status.models)
    )


def _input(elements: int) -> pb.Input:
    return pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[elements]))


def _only_output(response: oip.ModelInferResponse) -> float:
    (data,) = response.raw_output_contents
    return float(np.frombuffer(data, np.float32)[0])


def _f32(number: float) -> bytes:
    return np.array([number], np.float32).tobytes()
