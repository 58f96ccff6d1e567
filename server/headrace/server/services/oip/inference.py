"""`ModelInfer`: a stream of one ticket."""

from __future__ import annotations

from headrace.server.core.core import Core
from headrace.server.core.state import Stream
from headrace.server.services.api import Desk
from headrace.server.services.oip.requests import Request, Requests
from headrace.server.services.oip.responses import Responses
from headrace.server.services.single import single
from headrace.server.services.status import Context
from headrace.wire.errors import Unimplemented, quote


class InferRpc:
    def __init__(self, desk: Desk, requests: Requests, responses: Responses) -> None:
        self._desk = desk
        self._requests = requests
        self._responses = responses

    async def infer(self, message: bytes, context: Context) -> bytes:
        pieces = self._requests.take_apart(message)
        request = self._requests.read(pieces)
        try:
            remaining = context.time_remaining() or 0.0
            core, now = self._desk.core, self._desk.now()
            done = await single(
                self._desk, lambda stream: submit(core, stream, 1, request, len(message), now, remaining)
            )
            return self._responses.write(done, pieces.id, request.asked)
        finally:
            self._requests.let_go(request.asked)


def submit(
    core: Core, stream: Stream, tag: int, request: Request, nbytes: int, now: float, remaining: float = 0.0
) -> None:
    """Have the core admit a request that came in so many bytes. `remaining`: seconds of the call, 0 for any number.

    Raises what the client is to be told, before anything was admitted.
    """
    options, defined = request.options, request.description.defined
    if options.sequence:
        spec = core.models.find(defined.call.model, defined.call.version).spec
        if spec.has_variables:
            raise Unimplemented(
                f"model {quote(spec.name)} has state, and requests with {options.sequence} are not kept together here; "
                "use headrace.v1, or a model that takes its state as an input"
            )
    timeout = options.timeout
    if remaining > 0 and not 0 < timeout < remaining:
        timeout = remaining
    core.infer(
        stream,
        tag,
        defined,
        request.inline,
        core.charge(nbytes + request.nbytes),
        now,
        timeout=timeout,
        priority=options.priority,
    )
