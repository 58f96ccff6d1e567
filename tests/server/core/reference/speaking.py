"""Drawn commands, spoken on a stream: numbers become tags, names and calls that make sense at that moment or not."""

from __future__ import annotations

from headrace.wire.errors import Internal
from tests.server.core.reference.comparison import Charge, Comparison
from tests.server.core.reference.drawn import (
    INLINE,
    MAX_CALLS,
    POOLS,
    TAGS,
    Command,
    Fetch,
    Infer,
    Other,
    pick,
    rotated,
)
from tests.server.core.reference.expected import ExpectedOutput, ExpectedStream, KnownCall
from tests.server.core.reference.known_calls import CALLS, NAMES
from tests.server.core.reference.shapes import compatible


def speak(comparison: Comparison, stream: ExpectedStream, command: Command, charge: Charge) -> None:
    match command:
        case Infer():
            _infer(comparison, stream, command, charge)
        case Fetch():
            _fetch(comparison, stream, command)
        case Other():
            _other(comparison, stream, command)


def free_tag(stream: ExpectedStream, at: int) -> int:
    taken = {ticket.tag for ticket in stream.tickets if ticket.live}
    free = [tag for tag in range(1, TAGS) if tag not in taken]
    return pick(free, at) if free else at % TAGS


def _infer(comparison: Comparison, stream: ExpectedStream, drawn: Infer, charge: Charge) -> None:
    call = pick(POOLS[drawn.kind], drawn.call)
    if drawn.kind.startswith("reference"):
        possible = (each for each in rotated(POOLS[drawn.kind], drawn.call) if _has_sources(stream, each))
        call = next(possible, pick(INLINE, drawn.call))
    if drawn.defines:
        comparison.define(stream, drawn.number, call, 100)
    call = stream.calls.get(drawn.number, call)
    sizes = [7, *call.sizes[1:]] if drawn.wrong_sizes else call.sizes
    sources: list[int] = []
    for at, (_, name, _) in zip(drawn.sources, call.references, strict=False):
        keeping = [output.ticket.tag for output in _sources_for(stream, name)]
        sources.append(pick(keeping, at) if keeping else at % TAGS)
    if drawn.wrong_sources:
        sources = [each % TAGS for each in drawn.sources[: drawn.call % 3]]
    slices = [pick(drawn.parts, place) for place in range(len(sources))] if any(drawn.parts) else []
    slices = slices[1:] if drawn.wrong_sources else slices
    tag = drawn.tag % TAGS if drawn.wrong_tag else free_tag(stream, drawn.tag)
    inline = [bytes(size) for size in sizes]
    comparison.infer(stream, tag, drawn.number, inline, charge, sources, slices, drawn.timeout, drawn.priority)


def _fetch(comparison: Comparison, stream: ExpectedStream, drawn: Fetch) -> None:
    outputs = [(output.ticket.tag, name) for name in NAMES for output in _sources_for(stream, name)]
    source, name = pick(outputs, drawn.source) if outputs else (drawn.source % TAGS, pick(NAMES, drawn.source))
    if drawn.wrong_source:
        source, name = drawn.source % TAGS, pick(NAMES, drawn.source // TAGS)
    tag = drawn.tag % TAGS if drawn.wrong_tag else free_tag(stream, drawn.tag)
    comparison.fetch(stream, tag, source, name, drawn.slices)


def _other(comparison: Comparison, stream: ExpectedStream, drawn: Other) -> None:
    live = [ticket.tag for ticket in stream.tickets if ticket.live]
    tag = pick([*live, *live, *range(TAGS)], drawn.tag)
    match drawn.kind:
        case "release":
            names = [pick(NAMES, drawn.name), pick(NAMES, drawn.choice)][: drawn.choice % 3]
            comparison.release(stream, tag, names)
        case "cancel":
            comparison.cancel(stream, tag)
        case "define":
            nbytes = pick([0, 100, 3 << 20, 5 << 20], drawn.name)
            comparison.define(stream, drawn.choice % (MAX_CALLS + 3), pick(CALLS, drawn.tag), nbytes)
        case "open":
            comparison.open(stream, bool(drawn.choice % 2), pick([0, 1, 64 << 10], drawn.name))
        case _:
            comparison.reject(stream, Internal("what no command says"))


def _sources_for(stream: ExpectedStream, name: str) -> list[ExpectedOutput]:
    """Outputs that a reference to this name may mean: preferably ones that are available."""
    outputs = [output for ticket in stream.tickets for output in ticket.outputs if name in output.port.names]
    return [output for output in outputs if stream.find(output.ticket.tag, name) is output] or outputs


def _has_sources(stream: ExpectedStream, call: KnownCall) -> bool:
    """Whether everything that a call refers to is there, and fits."""
    return all(
        any(compatible(output.port, port) for output in _sources_for(stream, name)) for port, name, _ in call.references
    )
