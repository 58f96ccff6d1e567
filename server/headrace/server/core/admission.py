"""Checks before a ticket is admitted and before its outputs are sent. Nothing here changes any state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from headrace.server.core.calls import BoundInline, Call, Plan
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Tensor
from headrace.server.core.events import Failed
from headrace.server.core.quotas import TICKET_BYTES, MessageCharge, Share
from headrace.server.core.state import Stream, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.errors import (
    HeadraceError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    quote,
)
from headrace.wire.limits import MAX_PRIORITY, MAX_STRING_BYTES, MAX_STRINGS
from headrace.wire.tensors import MAX_RANK, Buffer, check_bytes, element_count, sliced_shape

MAX_NAME_CHARACTERS = 200
"""How much an event keeps of the name of a model, which its client decides."""


def failure(ticket: Ticket, error: HeadraceError, now: float, model: str) -> Failed:
    """The terminal event of a ticket that has failed, before its state says so.

    `model` is the name that its client has used; what it has got counts more.
    """
    failed = Failed(ticket.tag, error, admitted=True, model=model)
    if ticket.model is not None:
        failed.model, failed.version = ticket.model.spec.name, ticket.model.spec.version
    state = ticket.state
    if state is TicketState.WAITING:
        failed.waiting = now - ticket.arrived
    else:
        failed.waiting = ticket.ready - ticket.arrived
        if state is TicketState.QUEUED:
            failed.queued = now - ticket.ready
        else:
            failed.queued, failed.running = ticket.started - ticket.ready, now - ticket.started
    return failed


def described(stream: Stream, call: int | DefinedCall) -> Call | None:
    """What a call asks for; None if its number is not defined."""
    try:
        return (call if isinstance(call, DefinedCall) else stream.call(call)).call
    except InvalidArgument:
        return None


def model_of(call: Call | None) -> str:
    """The name of the model that is asked for, as an event has it; empty for a call that is not defined."""
    return "" if call is None else call.model[:MAX_NAME_CHARACTERS]


def tag_error(tag: int) -> HeadraceError:
    """Why a ticket cannot have this tag, which is 0 or live."""
    if tag == 0:
        return InvalidArgument("a tag must not be 0")
    return InvalidArgument(f"tag {tag} is live: its ticket is in flight or keeps outputs")


Refusal: TypeAlias = tuple[str, HeadraceError]
"""One of `counts.REASONS`, and what the client is told."""


def infer_refusal(
    stream: Stream, inline: Sequence[Buffer], charge: MessageCharge, stopping: bool, now: float
) -> Refusal | None:
    """Why an Infer is refused, if it is.

    The same one may be admitted later, unless its message is larger than the budget.
    """
    if stopping:
        return "draining", Unavailable("the server is stopping and does not accept new Infers")
    if stream.draining:
        return "draining", Unavailable("this stream was asked to move and does not accept new Infers: open another")
    if stream.in_flight >= stream.window or not stream.shares.tickets.fits(TICKET_BYTES):
        return _too_many_tickets(stream)
    if not inline:
        return None if stream.client is None else _by_limits(stream.client.infer(0, now))
    if charge.fits():
        return None if stream.client is None else _by_limits(stream.client.infer(charge.uncharged, now))
    queue = stream.shares.queue
    if charge.nbytes > queue.most:
        never = f"a message that takes {charge.nbytes} bytes never fits: the server has {queue.most} for inputs"
        return "input_memory", ResourceExhausted(never, retryable=False)
    return "input_memory", ResourceExhausted(f"{charge.nbytes} more input bytes do not fit: {_why(queue)}")


def fetch_refusal(stream: Stream) -> Refusal | None:
    """Why a Fetch is refused, if it is."""
    if stream.in_flight >= stream.window or not stream.shares.tickets.fits(TICKET_BYTES):
        return _too_many_tickets(stream)
    return None if stream.client is None else _by_limits(stream.client.ticket())


def _by_limits(refused: HeadraceError | None) -> Refusal | None:
    """Why a client may not have more at this moment."""
    return None if refused is None else ("client", refused)


def _too_many_tickets(stream: Stream) -> Refusal:
    """Why another ticket is refused."""
    if stream.in_flight >= stream.window:
        full = f"{stream.in_flight} tickets are in flight, which is the window of this stream"
        return "window", ResourceExhausted(full)
    why = _why(stream.shares.tickets)
    return "ticket_memory", ResourceExhausted(f"the server has no memory left for another ticket: {why}")


def check_unsent(stream: Stream, nbytes: int) -> None:
    """Raises ResourceExhausted for outputs that do not fit beside those that wait to be sent."""
    if not stream.may_send(nbytes):
        raise ResourceExhausted(
            f"{nbytes} bytes of output do not fit beside those that clients have not taken yet; "
            f"this stream has {stream.unsent_bytes} of them"
        )


def _why(share: Share) -> str:
    return f"this stream has {share.used} bytes, and may have no more than is left for all the others"


def check_content(stream: Stream, plan: Plan, inline: Sequence[Buffer], charge: MessageCharge, priority: int) -> None:
    """Raises InvalidArgument for wrong bytes, ResourceExhausted for outputs too large for a message to this client."""
    if priority > MAX_PRIORITY:
        raise InvalidArgument(f"priority {priority} is above {MAX_PRIORITY}")
    if (*map(len, inline),) != plan.sizes:
        _check_inline(plan, inline, charge)
    if plan.sent_bytes is not None:
        check_total(stream, plan.sent_bytes + plan.overhead)


def _check_inline(plan: Plan, inline: Sequence[Buffer], charge: MessageCharge) -> None:
    """Find what is wrong; or check inputs of BYTES, whose sizes no plan can tell."""
    if len(inline) != len(plan.sizes):
        raise InvalidArgument(f"the Infer has {len(inline)} tensors, but its call has {len(plan.sizes)} inline inputs")
    for data, bound in zip(inline, plan.inline, strict=True):
        if bound.nbytes is None:
            _check_strings(data, bound, charge)
        elif len(data) != bound.nbytes:
            raise wrong_size(bound, len(data))


def wrong_size(bound: BoundInline, nbytes: int) -> InvalidArgument:
    """Why an input cannot have this many bytes."""
    return InvalidArgument(
        f"input {quote(bound.port.name)} has {nbytes} bytes, "
        f"{bound.port.datatype.name}{list(bound.shape)} takes {bound.nbytes}"
    )


def _check_strings(data: Buffer, bound: BoundInline, charge: MessageCharge) -> None:
    """Check an input of BYTES, unless its message has too many elements of this kind: they are read one by one."""
    charge.strings += element_count(bound.shape)
    charge.string_bytes += len(data)
    if charge.string_bytes > MAX_STRING_BYTES:
        raise InvalidArgument(
            f"with input {quote(bound.port.name)} the message holds {charge.string_bytes} bytes of BYTES; the limit is "
            f"{MAX_STRING_BYTES}"
        )
    if charge.strings > MAX_STRINGS:
        raise InvalidArgument(
            f"with input {quote(bound.port.name)} the message holds {charge.strings} elements of BYTES; the limit is "
            f"{MAX_STRINGS}, so send them in several messages"
        )
    try:
        check_bytes(data, bound.shape)
    except InvalidArgument as error:
        raise InvalidArgument(f"input {quote(bound.port.name)}: {error.message}") from None


def check_total(stream: Stream, nbytes: int) -> None:
    """Raises ResourceExhausted for an event that is too large for a message to this client."""
    if nbytes > stream.max_message_bytes:
        raise ResourceExhausted(
            f"the outputs take {nbytes} bytes, but the largest message to this client is {stream.max_message_bytes}; "
            "keep it and fetch slices",
            retryable=False,
        )


def check_slices(slices: Sequence[tuple[int, int]]) -> None:
    """Raises InvalidArgument for more slices than a tensor can have axes: they wait in memory for the source."""
    if len(slices) > MAX_RANK:
        raise InvalidArgument(
            f"the Fetch has more than {MAX_RANK} slices, but a tensor has at most {MAX_RANK} dimensions"
        )


def slice_of(tensor: Tensor, slices: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """Shape and size in bytes of a slice (of BYTES, an upper bound). Raises InvalidArgument."""
    shape = sliced_shape(tensor.shape, slices)
    if not slices or tensor.datatype is Datatype.BYTES:
        return shape, tensor.nbytes
    return shape, element_count(shape) * ITEMSIZE[tensor.datatype]
