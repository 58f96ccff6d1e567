"""The unary calls of `headrace.v1.Inference`."""

from __future__ import annotations

from collections.abc import Callable

from headrace.server.core.calls import Call, Reference
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.events import Done
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import AnswerableCall
from headrace.server.services.native.commands import VIEW_BYTES, to_call
from headrace.server.services.native.encoder import to_tensor
from headrace.server.services.native.status import server_status
from headrace.server.services.observing import Observers
from headrace.server.services.single import TAG, UNLIMITED_BYTES, SingleInference, time_left
from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import microseconds
from headrace.wire.errors import HeadraceError, InvalidArgument
from headrace.wire.frames import join_frame, parse_frame

INFER = "headrace.v1.Inference/Infer"


class UnaryRpcs:
    def __init__(self, streams: Streams, observers: Observers, loop_lag: Callable[[], float]) -> None:
        self._streams = streams
        self._observers = observers
        self._loop_lag = loop_lag

    def infer(self, message: bytes, call: AnswerableCall) -> None:
        """Run one inference."""
        remaining = time_left(call)
        request = pb.InferRequest()
        try:
            request, tensors = parse_frame(message, request)
            core_call = to_call(request.call)
            _check_nothing_stays(core_call)
        except HeadraceError as error:
            self._streams.request_failed(request.call.model, request.call.version, error)
            raise
        timeouts = [seconds for seconds in (request.timeout_us * 1e-6, remaining) if seconds]
        defined, timeout = DefinedCall(core_call, 0), min(timeouts, default=0.0)

        def submit(core: Commands, stream: Stream, now: float) -> None:
            core.open(stream, ordered=False, max_message_bytes=UNLIMITED_BYTES)
            charge = core.charge(stream, len(message) + VIEW_BYTES * len(tensors))
            core.infer(stream, TAG, defined, tensors, charge, now, timeout=timeout, priority=request.priority)

        SingleInference(self._streams, call, INFER, self._observers, _response).begin(submit)

    async def server_status(self, _request: pb.ServerStatusRequest) -> pb.ServerStatusResponse:
        return server_status(self._streams.view, self._loop_lag())


def _check_nothing_stays(call: Call) -> None:
    if call.keep or call.keep_inputs or any(isinstance(source, Reference) for source in call.inputs):
        raise InvalidArgument("a unary Infer can neither keep outputs nor refer to kept outputs; use a stream")


def _response(done: Done) -> bytes:
    plan = done.plan
    outputs = [
        to_tensor(port, tensor.datatype, tensor.shape) for port, tensor in zip(plan.outputs, done.sent, strict=True)
    ]
    response = pb.InferResponse(
        outputs=outputs, queued_us=microseconds(done.queued), running_us=microseconds(done.running)
    )
    return join_frame(response.SerializeToString(), [tensor.read() for tensor in done.sent])
