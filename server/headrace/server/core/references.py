"""From a tag and the name of an output to the kept output: the one place that finds it, or says why it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.server.core.calls import BoundReference, Plan
from headrace.server.core.engine_api import Slices, Tensor
from headrace.server.core.specs import Dimension, Port
from headrace.server.core.state import KeptOutput, Stream, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import FailedPrecondition, HeadraceError, InvalidArgument, NotFound, quote
from headrace.wire.limits import MAX_SOURCE_SLICES
from headrace.wire.tensors import MAX_RANK, sliced_shape

TOO_MANY_SLICES: Sequence[Slices] = [()]
"""What stands for the slices of an Infer that were not read, because its message has too many of them."""


def find(stream: Stream, tag: int, output: str, error: type[HeadraceError]) -> KeptOutput:
    """The output that ticket `tag` keeps under a name. Raises `error`, naming both, when it does not."""
    source = stream.tickets.get(tag)
    if source is None:
        raise error(f"output {quote(output)} of ticket {tag}: no such ticket is live in this stream")
    if not source.infer:
        raise error(f"output {quote(output)} of ticket {tag}: that ticket is a Fetch, which keeps no outputs")
    if source.plan is None or (source.finished and source.state is not TicketState.DONE):
        raise error(f"output {quote(output)} of ticket {tag}: that ticket ended without a result")
    port = source.plan.kept.get(output)
    kept = None if port is None else source.own.get(port.index)
    if kept is None:
        raise error(_not_kept(source.plan, output, tag))
    return kept


def _not_kept(plan: Plan, name: str, tag: int) -> str:
    """Why a ticket that has not failed keeps no output or input of this name."""
    port = plan.kept.get(name)
    if port is not None:
        return f"{'input' if port.is_kept_input else 'output'} {quote(name)} of ticket {tag} is not kept any more"
    try:
        plan.spec.output(name)
    except NotFound as unknown:
        if any(name in port.names for port in plan.spec.inputs):
            return f"input {quote(name)} of ticket {tag} was not named in keep_inputs"
        return f"output {quote(name)} of ticket {tag}: {unknown.message}"
    return f"output {quote(name)} of ticket {tag} was not named in keep"


def resolve(stream: Stream, plan: Plan, tags: Sequence[int], slices: Sequence[Slices]) -> list[KeptOutput]:
    """The sources of an Infer, in the order of the plan's references. Changes no state.

    `slices` are those of the sources, or empty for all of each. Raises InvalidArgument for a wrong number of tags or
    slices, a slice outside of its source, or a tensor that the input cannot take, as far as that is known now, and
    FailedPrecondition for a source that is not there.
    """
    if len(tags) != len(plan.references):
        raise InvalidArgument(f"the Infer has {len(tags)} sources, but its call has {len(plan.references)} references")
    if slices:
        _check_counts(slices, len(tags))
    sources: list[KeptOutput] = []
    for reference, tag in zip(plan.references, tags, strict=True):
        kept = find(stream, tag, reference.output, FailedPrecondition)
        cut = slices[len(sources)] if slices else ()
        port = _port_of_slice(reference, kept, cut) if cut else kept.port
        if port.datatype is not reference.port.datatype or not port.overlaps(reference.port):
            raise InvalidArgument(
                f"input {quote(reference.port.name)} takes {reference.port}, {_of(reference, kept, cut)} is {port}"
            )
        if kept.tensor is not None:
            check_shape(reference, kept, cut)
        sources.append(kept)
    return sources


def _check_counts(slices: Sequence[Slices], sources: int) -> None:
    if slices is TOO_MANY_SLICES:
        raise InvalidArgument(
            f"the Infers of the message have more than {MAX_SOURCE_SLICES} slices of sources; send them in several "
            "messages"
        )
    if len(slices) != sources:
        raise InvalidArgument(f"the Infer has {sources} sources, but slices for {len(slices)}")
    if any(len(cut) > MAX_RANK for cut in slices):
        raise InvalidArgument(f"the Infer has more than {MAX_RANK} slices of a source, which is more than it has axes")


def _of(reference: BoundReference, kept: KeptOutput, cut: Slices) -> str:
    what = f"{'input' if kept.port.is_kept_input else 'output'} {quote(reference.output)} of ticket {kept.ticket.tag}"
    if not cut:
        return what
    return f"the slice [{', '.join([f'{start}:{stop}' for start, stop in cut])}] of {what}"


def _port_of_slice(reference: BoundReference, kept: KeptOutput, cut: Slices) -> Port:
    """What a slice of a source can be, as far as that is known before the source is done. Raises InvalidArgument."""
    port, axes = kept.port, kept.port.shape
    sizes: list[Dimension] = []
    if axes is not None and len(cut) > len(axes):
        raise _outside(reference, kept, cut, f"{len(cut)} slices for a tensor of {len(axes)} dimensions")
    for axis, (start, stop) in enumerate(cut):
        size = axes[axis] if axes is not None else Dimension(0, -1)
        if not 0 <= start <= stop or -1 < size.max < stop:
            why = f"slice {start}:{stop} does not lie inside axis {axis} of size {size}"
            raise _outside(reference, kept, cut, why)
        sizes.append(Dimension(stop - start, stop - start))
    return port if axes is None else replace(port, shape=(*sizes, *axes[len(cut) :]))


def _outside(reference: BoundReference, kept: KeptOutput, cut: Slices, why: str) -> InvalidArgument:
    return InvalidArgument(f"input {quote(reference.port.name)} takes {_of(reference, kept, cut)}: {why}")


def check_shapes(ticket: Ticket) -> None:
    """Check the tensors of a ticket's sources, which are all there. Raises InvalidArgument."""
    assert ticket.plan is not None
    slices = ticket.source_slices
    for position, (reference, kept) in enumerate(zip(ticket.plan.references, ticket.sources, strict=True)):
        check_shape(reference, kept, slices[position] if slices else ())


def check_shape(reference: BoundReference, kept: KeptOutput, cut: Slices) -> None:
    """Check the tensor of a source, or a slice of it, against the input it is meant for. Raises InvalidArgument."""
    assert kept.tensor is not None
    shape = kept.tensor.shape
    if cut:
        try:
            shape = sliced_shape(shape, cut)
        except InvalidArgument as error:
            raise _outside(reference, kept, cut, error.message) from None
    if not reference.port.admits(shape):
        raise InvalidArgument(
            f"input {quote(reference.port.name)} takes {reference.port}, {_of(reference, kept, cut)} "
            f"has shape {list(shape)}"
        )


def sliced_sources(ticket: Ticket) -> list[Tensor]:
    """The tensors that a ticket refers to, which are all there, or the slices of them."""
    slices = ticket.source_slices or [()] * len(ticket.sources)
    return [
        kept.tensor.sliced(cut) if cut else kept.tensor
        for kept, cut in zip(ticket.sources, slices, strict=True)
        if kept.tensor is not None
    ]


def inherit_priority(ticket: Ticket) -> None:
    """Let the sources that a ticket waits for start as early as it would, and their sources too."""
    tickets = [ticket]
    while tickets:
        ticket = tickets.pop()
        for kept in ticket.sources:
            source = kept.ticket
            if source.finished or source.priority >= ticket.priority:
                continue
            if source.state is TicketState.QUEUED:
                assert source.model is not None
                source.model.remove(source)
                source.priority = ticket.priority
                source.model.push(source)
            else:
                source.priority = ticket.priority
                tickets.append(source)
