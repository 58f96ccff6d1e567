"""From a tag and the name of an output to the kept output: the one place that finds it, or says why it is missing."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.calls import BoundReference, Plan
from headrace.server.core.state import KeptOutput, Stream, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import FailedPrecondition, HeadraceError, InvalidArgument, NotFound, quote


def find(stream: Stream, tag: int, output: str, error: type[HeadraceError]) -> KeptOutput:
    """The output that ticket `tag` keeps under a name. Raises `error`, naming both, when it does not."""
    source = stream.tickets.get(tag)
    if source is None:
        raise error(f"output {quote(output)} of ticket {tag}: no such ticket is live in this stream")
    if not source.infer:
        raise error(f"output {quote(output)} of ticket {tag}: that ticket is a Fetch, which keeps no outputs")
    if source.plan is None or (source.finished and source.state is not TicketState.DONE):
        raise error(f"output {quote(output)} of ticket {tag}: that ticket ended without a result")
    try:
        port = source.plan.spec.output(output)
    except NotFound as unknown:
        raise error(f"output {quote(output)} of ticket {tag}: {unknown.message}") from None
    kept = source.own.get(port.index)
    if kept is None:
        why = "is not kept any more" if port in source.plan.keep else "was not named in keep"
        raise error(f"output {quote(output)} of ticket {tag} {why}")
    return kept


def resolve(stream: Stream, plan: Plan, tags: Sequence[int]) -> list[KeptOutput]:
    """The sources of an Infer, in the order of the plan's references. Changes no state.

    Raises InvalidArgument for a wrong number of tags or a tensor that the input cannot take, FailedPrecondition for
    a source that is not there.
    """
    if len(tags) != len(plan.references):
        raise InvalidArgument(f"the Infer has {len(tags)} sources, but its call has {len(plan.references)} references")
    sources: list[KeptOutput] = []
    for reference, tag in zip(plan.references, tags, strict=True):
        kept = find(stream, tag, reference.output, FailedPrecondition)
        if kept.port.datatype is not reference.port.datatype or not kept.port.overlaps(reference.port):
            raise InvalidArgument(
                f"input {quote(reference.port.name)} takes {reference.port}, "
                f"output {quote(reference.output)} of ticket {tag} is {kept.port}"
            )
        if kept.tensor is not None:
            check_shape(reference, kept)
        sources.append(kept)
    return sources


def check_shape(reference: BoundReference, kept: KeptOutput) -> None:
    """Check the tensor of a source against the input it is meant for. Raises InvalidArgument."""
    assert kept.tensor is not None
    if not reference.port.admits(kept.tensor.shape):
        raise InvalidArgument(
            f"input {quote(reference.port.name)} takes {reference.port}, output {quote(reference.output)} "
            f"of ticket {kept.ticket.tag} has shape {list(kept.tensor.shape)}"
        )


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
