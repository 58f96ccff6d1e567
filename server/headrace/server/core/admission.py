"""What is checked before a ticket is admitted, and before it is sent: everything that changes no state."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.calls import BoundInline, Plan
from headrace.server.core.engine_api import Tensor
from headrace.server.core.limits import MAX_PRIORITY
from headrace.server.core.quotas import MessageCharge
from headrace.server.core.state import Stream
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.errors import (
    HeadraceError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    quote,
)
from headrace.wire.tensors import MAX_RANK, Buffer, check_bytes, element_count, sliced_shape


def tag_error(tag: int) -> HeadraceError:
    """Why there can be no ticket with this tag, which is 0 or live."""
    if tag == 0:
        return InvalidArgument("a tag must not be 0")
    return InvalidArgument(f"tag {tag} is live: its ticket is in flight or has kept outputs")


def refusal(stream: Stream, charge: MessageCharge, draining: bool) -> HeadraceError:
    """Why an Infer is not admitted; the same one may be later."""
    if draining:
        return Unavailable("the server is stopping and takes no new Infers")
    if stream.in_flight >= stream.window:
        return window_is_full(stream)
    return ResourceExhausted(f"the server holds all the input bytes that it takes; {charge.nbytes} more do not fit")


def window_is_full(stream: Stream) -> HeadraceError:
    return ResourceExhausted(f"{stream.in_flight} tickets are in flight, which is the window of this stream")


def check_content(stream: Stream, plan: Plan, inline: Sequence[Buffer], priority: int) -> None:
    """Raises InvalidArgument for wrong bytes, ResourceExhausted for outputs that no message to this client holds."""
    if priority > MAX_PRIORITY:
        raise InvalidArgument(f"priority {priority} is over {MAX_PRIORITY}")
    if (*map(len, inline),) != plan.sizes:
        _check_inline(plan, inline)
    if plan.sent_bytes is not None:
        check_total(stream, plan.sent_bytes + plan.overhead)


def _check_inline(plan: Plan, inline: Sequence[Buffer]) -> None:
    """Find what is wrong, or look into BYTES, whose sizes no plan tells."""
    if len(inline) != len(plan.sizes):
        raise InvalidArgument(f"{len(inline)} tensors for a call with {len(plan.sizes)} inline inputs")
    for data, size, bound in zip(inline, plan.sizes, plan.inline, strict=True):
        if size is None:
            _check_bytes(data, bound)
        elif len(data) != size:
            raise InvalidArgument(
                f"input {quote(bound.port.name)} has {len(data)} bytes, "
                f"{bound.port.datatype.name}{list(bound.shape)} takes {size}"
            )


def _check_bytes(data: Buffer, bound: BoundInline) -> None:
    try:
        check_bytes(data, bound.shape)
    except InvalidArgument as error:
        raise InvalidArgument(f"input {quote(bound.port.name)}: {error.message}") from None


def check_total(stream: Stream, nbytes: int) -> None:
    """Raises ResourceExhausted for an event that this client takes in no message."""
    if nbytes > stream.max_message_bytes:
        raise ResourceExhausted(
            f"the outputs take {nbytes} bytes, the largest message to this client {stream.max_message_bytes}; "
            "keep it and fetch slices",
            retryable=False,
        )


def check_slices(slices: Sequence[tuple[int, int]]) -> None:
    """Raises InvalidArgument for more slices than a tensor has axes, which would be held until the source is there."""
    if len(slices) > MAX_RANK:
        raise InvalidArgument(f"{len(slices)} slices, where a tensor has at most {MAX_RANK} dimensions")


def slice_of(tensor: Tensor, slices: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """Shape and bytes of a part of a tensor; of BYTES, whose elements differ, at most. Raises InvalidArgument."""
    shape = sliced_shape(tensor.shape, slices)
    if not slices or tensor.datatype is Datatype.BYTES:
        return shape, tensor.nbytes
    return shape, element_count(shape) * ITEMSIZE[tensor.datatype]
