"""Decodes the messages of a stream into the core's terms."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.calls import Call, Inline, Reference, Zeros, too_many
from headrace.server.core.engine_api import Slices
from headrace.server.core.references import TOO_MANY_SLICES
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands
from headrace.server.services.observing import Traces
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument, Unimplemented, quote
from headrace.wire.frames import MAX_ITEMS, parse_frame
from headrace.wire.limits import MAX_FRAME_NAMES, MAX_PORTS, MAX_SOURCE_SLICES
from headrace.wire.tensors import MAX_RANK

VIEW_BYTES = 200
"""Memory of the view of a tensor in a message."""

_INFER, _DEFINE, _FETCH, _RELEASE, _CANCEL, _OPEN, _INFER_SLICES = (
    pb.Command.INFER,
    pb.Command.DEFINE,
    pb.Command.FETCH,
    pb.Command.RELEASE,
    pb.Command.CANCEL,
    pb.Command.OPEN,
    pb.Command.INFER_SLICES,
)

_TOO_MANY_AXES: Slices = ((0, 0),) * (MAX_RANK + 1)
"""What the core gets to refuse instead of more slices than a tensor can have axes."""
_WHOLE: Sequence[Slices] = ()
_INFERS = (_INFER, _INFER_SLICES)


def apply_commands(core: Commands, stream: Stream, now: float, message: bytes, traces: Traces | None = None) -> None:
    """Apply the commands of a ClientFrame in order. A message that cannot be read is rejected as a whole.

    `traces` hears of each Infer.
    """
    try:
        frame, tensors = parse_frame(message, pb.ClientFrame())
        commands = frame.commands
        if len(commands) > MAX_ITEMS:
            raise InvalidArgument(f"a frame holds {len(commands)} commands; the limit is {MAX_ITEMS}")
    except InvalidArgument as error:
        core.reject(stream, error)
        return
    core.counts.frame_commands.add(float(len(commands)), 1)
    charge = core.charge(stream, len(message) + VIEW_BYTES * len(tensors))
    used = named = cut = 0
    for command in commands:
        kind = command.kind
        if kind in _INFERS:
            first, used = used, used + command.tensors
            slices = _WHOLE
            if kind != _INFER:
                slices, cut = _source_slices(command, cut)
            if traces is not None:
                traces.begin(stream, command.tag, now, command.traceparent)
            core.infer(
                stream,
                command.tag,
                command.call,
                tensors[first:used],
                charge,
                now,
                sources=command.sources,
                slices=slices,
                timeout=command.timeout_us * 1e-6,
                priority=command.priority,
            )
        elif kind == _DEFINE:
            define = command.define
            named += len(define.inputs) + len(define.outputs) + len(define.keep) + len(define.keep_inputs)
            core.define(stream, command.call, to_call(define, named), define.ByteSize())
        elif kind == _FETCH:
            fetch = command.fetch
            named += min(len(fetch.slices), MAX_RANK)
            if named > MAX_FRAME_NAMES:
                core.reject(stream, InvalidArgument(_too_many_in_frame(named)))
                continue
            core.fetch(stream, command.tag, fetch.source, fetch.output, _to_slices(fetch.slices), now)
        elif kind == _RELEASE:
            outputs = command.release.outputs
            named += len(outputs)
            if named > MAX_FRAME_NAMES:
                core.reject(stream, InvalidArgument(_too_many_in_frame(named)))
            else:
                core.release(stream, command.tag, tuple(outputs))
        elif kind == _CANCEL:
            core.cancel(stream, command.tag, now)
        elif kind == _OPEN:
            opening = command.open
            core.open(stream, opening.ordered, opening.max_message_bytes, can_move=opening.can_move)
        else:
            core.reject(stream, Unimplemented(f"this server does not know command kind {kind}"))
    if used < len(tensors):
        core.reject(stream, InvalidArgument(f"the frame has {len(tensors) - used} tensors that no Infer uses"))


def _source_slices(command: pb.Command, cut: int) -> tuple[Sequence[Slices], int]:
    """The slices of the sources of an Infer, unless there are too many, and how many the frame has up to here.

    `cut` is how many it has before it.
    """
    cut += len(command.slices)
    if cut > MAX_SOURCE_SLICES:
        return TOO_MANY_SLICES, cut
    slices: list[Slices] = []
    for source in command.slices:
        cut += min(len(source.slices), MAX_RANK)
        if cut > MAX_SOURCE_SLICES:
            return TOO_MANY_SLICES, cut
        slices.append(_to_slices(source.slices))
    return slices, cut


def _to_slices(slices: Sequence[pb.Slice]) -> Slices:
    return tuple([(part.start, part.stop) for part in slices]) if len(slices) <= MAX_RANK else _TOO_MANY_AXES


def to_call(call: pb.Call, named: int = 0) -> Call:
    """The description of a call, converted unless there is too much of it.

    `named` counts the inputs, outputs and slices in the frame up to this call. A description that is too large cannot
    be used: a number must not keep the description that it had before.
    """
    try:
        _check_counts(call, named)
        inputs = tuple([_to_input(each) for each in call.inputs])
    except InvalidArgument as error:
        return Call(call.model, call.version, (), (), False, (), refusal=error.message)
    return Call(
        call.model,
        call.version,
        inputs,
        tuple(call.outputs),
        call.all_outputs,
        tuple(call.keep),
        tuple(call.keep_inputs),
    )


def _check_counts(call: pb.Call, named: int) -> None:
    listed = (
        ("inputs", call.inputs),
        ("outputs", call.outputs),
        ("keep", call.keep),
        ("keep_inputs", call.keep_inputs),
    )
    for what, items in listed:
        if len(items) > MAX_PORTS:
            raise InvalidArgument(too_many(what, len(items)))
    if named > MAX_FRAME_NAMES:
        raise InvalidArgument(_too_many_in_frame(named))


def _too_many_in_frame(named: int) -> str:
    return f"up to here the frame names {named} inputs, outputs and slices; the limit is {MAX_FRAME_NAMES}"


def _to_input(message: pb.Input) -> Inline | Reference | Zeros:
    """Raises InvalidArgument for a shape that no tensor can have."""
    if message.HasField("reference"):
        return Reference(message.name, message.reference.output, message.reference.take)
    if message.HasField("zeros"):
        return Zeros(message.name, message.zeros.datatype, _to_shape(message.name, message.zeros.shape))
    return Inline(message.name, message.inline.datatype, _to_shape(message.name, message.inline.shape))


def _to_shape(name: str, dimensions: Sequence[int]) -> tuple[int, ...]:
    rank = len(dimensions)
    if rank > MAX_RANK:
        raise InvalidArgument(f"input {quote(name)}: a shape has {rank} dimensions; the limit is {MAX_RANK}")
    return tuple(dimensions)
