"""`ModelInfer`, and the submission of requests."""

from __future__ import annotations

from collections.abc import Hashable

from headrace.server.core.admission import MAX_NAME_CHARACTERS
from headrace.server.core.events import Done, Failed
from headrace.server.core.sequences import NO_STEP, Step
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import AnswerableCall
from headrace.server.services.observing import UNOBSERVED, Observers
from headrace.server.services.oip.messages import RequestParts, named_model, split_request
from headrace.server.services.oip.options import read_step
from headrace.server.services.oip.requests import Request, RequestReader
from headrace.server.services.oip.responses import ResponseWriter, unary_response
from headrace.server.services.single import TAG, UNLIMITED_BYTES, SingleInference, time_left
from headrace.wire.errors import HeadraceError

INFER = "inference.GRPCInferenceService/ModelInfer"


class InferRpc:
    def __init__(
        self,
        streams: Streams,
        requests: RequestReader,
        responses: ResponseWriter,
        observers: Observers = UNOBSERVED,
    ) -> None:
        self._streams = streams
        self._observers = observers
        self._requests = requests
        self._responses = responses

    def infer(self, message: bytes, call: AnswerableCall) -> None:
        """Run one inference: a stream of one ticket."""
        parts = split_request(message)
        try:
            remaining = time_left(call)
            request = read_request(self._streams, self._requests, parts, call.client)
        except HeadraceError as error:
            name, version = named_model(parts)
            self._streams.request_failed(name, version, error)
            if parts.parameters:
                self._miss_step(call, parts, error)
            failed = Failed(TAG, error, admitted=False, model=name[:MAX_NAME_CHARACTERS])
            self._observers.log.failed(call, INFER, failed, parts.id)
            call.reported = True
            raise

        def respond(done: Done) -> bytes:
            return unary_response(self._responses.write(done, parts.id, request.outputs))

        def release() -> None:
            self._requests.release(request.outputs)

        try:
            inference = SingleInference(self._streams, call, INFER, self._observers, respond, release, parts.id)
        except Exception:
            release()
            raise
        inference.begin(_open_and_submit, request, len(message), remaining)

    def _miss_step(self, call: AnswerableCall, parts: RequestParts, error: HeadraceError) -> None:
        handle = self._streams.open(call.client, unary=True)
        try:
            handle.submit(miss_step, parts, error)
        finally:
            handle.close()


def read_request(streams: Streams, requests: RequestReader, parts: RequestParts, client: Hashable) -> Request:
    """Decode a request. An unexpected error fails only this request: nothing has been admitted yet."""
    try:
        return requests.read(parts, client)
    except HeadraceError:
        raise
    except Exception as error:
        raise streams.incident(error) from None


def miss_step(core: Commands, stream: Stream, _now: float, parts: RequestParts, error: HeadraceError) -> None:
    """If a request that cannot be read was to be part of a sequence, that has a gap."""
    step = read_step(parts.parameters)
    if step != NO_STEP:
        core.miss_step(named_model(parts)[0], _of_client(step, stream), error)


def _of_client(step: Step, stream: Stream) -> Step:
    """A place in a sequence of this client: an identity cannot go on with those of another."""
    return step if stream.client is None else step._replace(client=stream.client.name)


def _open_and_submit(
    core: Commands, stream: Stream, now: float, request: Request, nbytes: int, remaining: float
) -> None:
    core.open(stream, ordered=False, max_message_bytes=UNLIMITED_BYTES)
    submit(core, stream, now, TAG, request, nbytes, remaining)


def submit(
    core: Commands, stream: Stream, now: float, tag: int, request: Request, nbytes: int, remaining: float = 0.0
) -> None:
    """Submit a request whose message has `nbytes` bytes.

    `remaining` is the time until the deadline of the call, in seconds, or 0 without a deadline.
    """
    options = request.options
    core.infer(
        stream,
        tag,
        request.description.defined,
        request.inline,
        core.charge(stream, nbytes + request.nbytes),
        now,
        timeout=remaining,
        queue_timeout=options.timeout,
        priority=options.priority,
        step=NO_STEP if options.step == NO_STEP else _of_client(options.step, stream),
    )
