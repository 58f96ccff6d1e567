"""Decodes the messages of a stream into the core's terms."""

from __future__ import annotations

from headrace.server.core.calls import Call, Inline, Reference, Zeros
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument, Unimplemented
from headrace.wire.frames import MAX_ITEMS, parse_frame

_INFER, _DEFINE, _FETCH, _RELEASE, _CANCEL, _OPEN = (
    pb.Command.INFER,
    pb.Command.DEFINE,
    pb.Command.FETCH,
    pb.Command.RELEASE,
    pb.Command.CANCEL,
    pb.Command.OPEN,
)


def apply_commands(core: Commands, stream: Stream, now: float, message: bytes) -> None:
    """Apply the commands of a ClientFrame in order. A message that cannot be read is rejected as a whole."""
    try:
        frame, tensors = parse_frame(message, pb.ClientFrame())
        commands = frame.commands
        if len(commands) > MAX_ITEMS:
            raise InvalidArgument(f"a frame holds {len(commands)} commands; the limit is {MAX_ITEMS}")
    except InvalidArgument as error:
        core.reject(stream, error)
        return
    charge = core.charge(len(message))
    used = 0
    for command in commands:
        kind = command.kind
        if kind == _INFER:
            first, used = used, used + command.tensors
            core.infer(
                stream,
                command.tag,
                command.call,
                tensors[first:used],
                charge,
                now,
                sources=command.sources,
                timeout=command.timeout_us * 1e-6,
                priority=command.priority,
            )
        elif kind == _DEFINE:
            core.define(stream, command.call, to_call(command.define), command.define.ByteSize())
        elif kind == _FETCH:
            fetch = command.fetch
            slices = tuple((part.start, part.stop) for part in fetch.slices)
            core.fetch(stream, command.tag, fetch.source, fetch.output, slices, now)
        elif kind == _RELEASE:
            core.release(stream, command.tag, tuple(command.release.outputs))
        elif kind == _CANCEL:
            core.cancel(stream, command.tag, now)
        elif kind == _OPEN:
            core.open(stream, command.open.ordered, command.open.max_message_bytes)
        else:
            core.reject(stream, Unimplemented(f"this server does not know command kind {kind}"))
    if used < len(tensors):
        core.reject(stream, InvalidArgument(f"the frame has {len(tensors) - used} tensors that no Infer uses"))


def to_call(call: pb.Call) -> Call:
    return Call(
        call.model,
        call.version,
        tuple(_to_input(each) for each in call.inputs),
        tuple(call.outputs),
        call.all_outputs,
        tuple(call.keep),
    )


def _to_input(message: pb.Input) -> Inline | Reference | Zeros:
    if message.HasField("reference"):
        return Reference(message.name, message.reference.output, message.reference.take)
    if message.HasField("zeros"):
        return Zeros(message.name, message.zeros.datatype, tuple(message.zeros.shape))
    return Inline(message.name, message.inline.datatype, tuple(message.inline.shape))
