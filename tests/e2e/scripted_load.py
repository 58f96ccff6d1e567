"""A load of which every request and its end is known: by frames, by unary calls of both protocols, and by a stream of
single requests."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np

from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.stubs import Command, Event, StubStream

ROW = np.ones((1, 16), np.float32).tobytes()
ONE = np.ones(1, np.float32).tobytes()
NO_MODEL = ("", "")
AM, SLOW, FAILING = (("am", "1"), ("slow", "1"), ("failing", "1"))
CUT_SHORT = ("cut short", "")
"""The end of a unary call whose deadline passes: server and client find that out on their own."""
OPTIONS = ("--window=8", "--slots=1", "--prune=off")

End = tuple[str, str, str, str]
"""Model, version, outcome and code."""


class ScriptedLoad:
    """`ends` is what has been sent, by how it must end; `commands` and `events` are those of each frame."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.ends: Counter[End] = Counter()
        self.commands: list[int] = []
        self.events = 0
        self.fetches: Counter[tuple[str, str]] = Counter()
        self.rejected: Counter[tuple[str]] = Counter()
        self.opened: Counter[tuple[str]] = Counter()

    @staticmethod
    def models(folder: Path) -> list[str]:
        made = {"am": models.add_multiply(folder), "slow": models.slow(folder), "failing": models.failing(folder)}
        return [f"{name}={path}" for name, path in made.items()]

    def run(self) -> None:
        with StubStream(self.address) as stream:
            self.opened["frames",] += 1
            self.events += 1  # Hello
            self._results(stream)
            self._chain(stream)
            self._bad_content(stream)
            self._what_cannot_have_a_ticket(stream)
            self._crowd(stream)
        self._vanish()
        with grpc.insecure_channel(self.address) as channel:
            self._unary(channel)
            self._stream_of_requests(channel)

    def _expect(self, model: tuple[str, str], outcome: str, code: str, count: int = 1) -> None:
        self.ends[*model, outcome, code] += count

    def _send(self, stream: StubStream, *commands: pb.Command, tensors: list[bytes], events: int) -> Counter[int]:
        """A frame. Returns the kinds of the events that come for it."""
        stream.send(*commands, tensors=tensors)
        self.commands.append(len(commands))
        self.events += events
        return Counter(stream.receive()[0].kind for _ in range(events))

    def _results(self, stream: StubStream) -> None:
        infers = [Command(tag=tag, call=1, tensors=2) for tag in (1, 2, 3)]
        call = _define(1, "am", ("x", "y"), outputs=["sum"])
        assert self._send(stream, call, *infers, tensors=[ROW] * 6, events=3) == {Event.DONE: 3}
        self._expect(AM, "done", "OK", 3)
        sizes = _define(2, "failing", ("x",), shape=[16], outputs=["y"])
        whole = Command(tag=4, call=2, tensors=1)
        assert self._send(stream, sizes, whole, tensors=[ROW], events=1) == {Event.DONE: 1}
        self._expect(FAILING, "done", "OK")

    def _chain(self, stream: StubStream) -> None:
        keep = _define(3, "am", ("x", "y"), keep=["sum"])
        source = pb.Input(name="x", reference=pb.Reference(output="sum"))
        inline = _define(4, "am", ("x", "y")).define.inputs[1]
        use = Command(kind=Command.DEFINE, call=4, define=pb.Call(model="am", inputs=[source, inline], outputs=["sum"]))
        kinds = self._send(
            stream,
            keep,
            Command(tag=10, call=3, tensors=2),
            use,
            Command(tag=11, call=4, tensors=1, sources=[10]),
            Command(kind=Command.FETCH, tag=12, fetch=pb.Fetch(source=10, output="sum")),
            Command(kind=Command.FETCH, tag=13, fetch=pb.Fetch(source=10, output="none")),
            tensors=[ROW] * 3,
            events=4,
        )
        assert kinds == {Event.DONE: 2, Event.FETCHED: 1, Event.FAILED: 1}
        self._expect(AM, "done", "OK", 2)
        self.fetches.update({("done", "OK"): 1, ("failed", "NOT_FOUND"): 1})
        self._send(stream, Command(kind=Command.RELEASE, tag=10), tensors=[], events=0)

    def _bad_content(self, stream: StubStream) -> None:
        ghost = _define(5, "ghost", ("x",), outputs=["y"])
        kinds = self._send(
            stream,
            Command(tag=20, call=1, tensors=2),
            Command(tag=21, call=77),
            ghost,
            Command(tag=22, call=5, tensors=1),
            tensors=[ROW, b"short", ROW],
            events=3,
        )
        assert kinds == {Event.FAILED: 3}
        self._expect(AM, "failed", "INVALID_ARGUMENT")
        self._expect(NO_MODEL, "failed", "INVALID_ARGUMENT")
        self._expect(NO_MODEL, "failed", "NOT_FOUND")
        sizes = _define(6, "failing", ("x",), shape=[15], outputs=["y"])
        run = Command(tag=23, call=6, tensors=1)
        assert self._send(stream, sizes, run, tensors=[ROW[:60]], events=1) == {Event.FAILED: 1}
        self._expect(FAILING, "failed", "INTERNAL")

    def _what_cannot_have_a_ticket(self, stream: StubStream) -> None:
        unknown = Command(kind=Command.Kind.ValueType(99))
        assert self._send(stream, unknown, tensors=[], events=1) == {Event.FAILED: 1}
        nameless = Command(tag=0, call=1, tensors=2)
        assert self._send(stream, nameless, tensors=[ROW] * 2, events=1) == {Event.FAILED: 1}
        self._expect(AM, "refused", "INVALID_ARGUMENT")
        self.rejected.update({("content",): 1, ("tag",): 1})

    def _crowd(self, stream: StubStream) -> None:
        """More than the window: the first run takes longer than anybody waits."""
        infers = [Command(tag=30 + number, call=7, tensors=1) for number in range(10)]
        infers[3].timeout_us = infers[4].timeout_us = 1
        cancels = [Command(kind=Command.CANCEL, tag=tag) for tag in (35, 36)]
        call = _define(7, "slow", ("x",), shape=[1], outputs=["y"])
        kinds = self._send(stream, call, *infers, *cancels, tensors=[ONE] * 10, events=10)
        assert kinds == {Event.FAILED: 6, Event.DONE: 4}
        self._expect(SLOW, "done", "OK", 4)
        self._expect(SLOW, *CUT_SHORT, count=4)
        self._expect(SLOW, "refused", "RESOURCE_EXHAUSTED", 2)
        self.rejected["window",] += 2

    def _vanish(self) -> None:
        """A client goes that has requests in flight: one runs, one is queued."""
        with StubStream(self.address) as stream:
            self.opened["frames",] += 1
            self.events += 1
            infers = [Command(tag=tag, call=1, tensors=1) for tag in (1, 2)]
            call = _define(1, "slow", ("x",), shape=[1], outputs=["y"])
            bad = Command(tag=0, call=1)  # its answer says that the frame has come
            kinds = self._send(stream, call, *infers, bad, tensors=[ONE] * 2, events=1)
            assert kinds == {Event.FAILED: 1}
            stream.replies.cancel()
        self._expect(SLOW, *CUT_SHORT, count=2)
        self._expect(SLOW, "refused", "INVALID_ARGUMENT")
        self.rejected["tag",] += 1

    def _unary(self, channel: grpc.Channel) -> None:
        stub, own = GRPCInferenceServiceStub(channel), InferenceStub(channel)
        for _ in range(3):
            stub.ModelInfer(_request("am", "x", "y"), timeout=60)
        self._expect(AM, "done", "OK", 3)
        call = _define(1, "am", ("x", "y"), outputs=["sum"]).define
        own.Infer(pb.InferRequest(call=call, tensors=[ROW, ROW]), timeout=60)
        self._expect(AM, "done", "OK")
        call.keep.append("sum")
        with suppress(grpc.RpcError):
            own.Infer(pb.InferRequest(call=call, tensors=[ROW, ROW]), timeout=60)
        self._expect(AM, "failed", "INVALID_ARGUMENT")
        odd = _request("am", "x", "y")
        odd.inputs[0].datatype = "FP99"
        for request in (_request("ghost", "x"), odd, _request("failing", "x", shape=[15])):
            with suppress(grpc.RpcError):
                stub.ModelInfer(request, timeout=60)
        self._expect(NO_MODEL, "failed", "NOT_FOUND")
        self._expect(AM, "failed", "INVALID_ARGUMENT")
        self._expect(FAILING, "failed", "INTERNAL")
        with suppress(grpc.RpcError):
            stub.ModelInfer(_request("slow", "x", shape=[1]), timeout=0.05)
        self._expect(SLOW, *CUT_SHORT)
        # Of nine calls two never open a stream: what they send cannot be read.
        self.opened["unary",] += 9 - 2

    def _stream_of_requests(self, channel: grpc.Channel) -> None:
        odd = _request("am", "x", "y")
        odd.inputs[0].datatype = "FP99"
        requests = [_request("am", "x", "y"), odd, _request("am", "x", "y"), _request("ghost", "x")]
        requests.append(_request("failing", "x", shape=[15]))
        answers = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests), timeout=60)
        assert [bool(each.error_message) for each in answers] == [False, True, False, True, True]
        self.opened["requests",] += 1
        self._expect(AM, "done", "OK", 2)
        self._expect(AM, "failed", "INVALID_ARGUMENT")
        self._expect(NO_MODEL, "failed", "NOT_FOUND")
        self._expect(FAILING, "failed", "INTERNAL")


def _define(
    number: int,
    model: str,
    inputs: tuple[str, ...],
    *,
    shape: list[int] | None = None,
    outputs: list[str] | None = None,
    keep: list[str] | None = None,
) -> pb.Command:
    described = [pb.Input(name=name, inline=pb.Inline(datatype=pb.FP32, shape=shape or [1, 16])) for name in inputs]
    call = pb.Call(model=model, inputs=described, outputs=outputs, keep=keep)
    return Command(kind=Command.DEFINE, call=number, define=call)


def _request(model: str, *inputs: str, shape: list[int] | None = None) -> oip.ModelInferRequest:
    shape = shape or [1, 16]
    tensor = oip.ModelInferRequest.InferInputTensor
    data = np.ones(shape, np.float32).tobytes()
    return oip.ModelInferRequest(
        model_name=model,
        inputs=[tensor(name=name, datatype="FP32", shape=shape) for name in inputs],
        raw_input_contents=[data] * len(inputs),
    )
