"""`ModelInfer`, and the submission of requests."""

from __future__ import annotations

from headrace.server.core.models import Models
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import Call
from headrace.server.services.oip.messages import split_request
from headrace.server.services.oip.requests import Request, RequestReader
from headrace.server.services.oip.responses import ResponseWriter
from headrace.server.services.single import UNLIMITED_BYTES, run_single
from headrace.wire.errors import Unimplemented, quote


class InferRpc:
    def __init__(self, streams: Streams, requests: RequestReader, responses: ResponseWriter) -> None:
        self._streams = streams
        self._requests = requests
        self._responses = responses

    async def infer(self, message: bytes, call: Call) -> bytes:
        """Run one inference: a stream of one ticket."""
        parts = split_request(message)
        request = self._requests.read(parts)
        try:
            check_sequence(self._streams.view.models, request)
            done = await run_single(
                self._streams, call, _open_and_submit, request, len(message), call.time_remaining() or 0.0
            )
            return self._responses.write(done, parts.id, request.outputs)
        finally:
            self._requests.release(request.outputs)


def check_sequence(models: Models, request: Request) -> None:
    """Raises Unimplemented if a request that is part of a sequence goes to a stateful model."""
    options, call = request.options, request.description.defined.call
    if options.sequence:
        spec = models.find(call.model, call.version).spec
        if spec.has_variables:
            raise Unimplemented(
                f"model {quote(spec.name)} is stateful, and this server does not support sequences, which "
                f"{options.sequence} asks for; use headrace.v1, or a model whose state is an input"
            )


def _open_and_submit(
    core: Commands, stream: Stream, now: float, request: Request, nbytes: int, remaining: float
) -> None:
    core.open(stream, ordered=False, max_message_bytes=UNLIMITED_BYTES)
    submit(core, stream, now, 1, request, nbytes, remaining)


def submit(
    core: Commands, stream: Stream, now: float, tag: int, request: Request, nbytes: int, remaining: float = 0.0
) -> None:
    """Submit a request whose message has `nbytes` bytes.

    `remaining` is the time until the deadline of the call, in seconds, or 0 without a deadline.
    """
    options = request.options
    timeout = options.timeout
    if remaining > 0 and not 0 < timeout < remaining:
        timeout = remaining
    core.infer(
        stream,
        tag,
        request.description.defined,
        request.inline,
        core.charge(stream, nbytes + request.nbytes),
        now,
        timeout=timeout,
        priority=options.priority,
    )
