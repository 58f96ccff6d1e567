"""Runs that end in place, with the followers that are run before the core is told of any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from headrace.server.core.engine_api import End, Ended, Run, Tensor
from headrace.server.core.state import Ticket
from headrace.wire.errors import HeadraceError
from headrace.wire.tensors import Buffer
from tests.server.core.model_specs import outputs_of
from tests.server.core.reference import checks
from tests.server.core.reference.comparison import Comparison
from tests.server.core.reference.execution import Result


def end_in_place(comparison: Comparison, size: int, most: int, error: HeadraceError | None) -> None:
    """The runs of the latest decision end, and up to `most` runs with their followers are done at once.

    Nothing happens if one of them has ended or is a batch. The last of all fails if there is an `error`.
    """
    core, state = comparison.core, comparison.state
    runs = comparison.decision.starts
    if not runs or any(len(run.parts) > 1 or run not in comparison.running for run in runs):
        return
    brought: list[tuple[Sequence[Tensor], Sequence[Buffer]]] = []
    results: list[Result] = []
    ends: list[End] = []
    following: Run | None = runs[0]
    while following is not None and len(ends) < most:
        (part,) = following.parts
        fails = error if len(ends) == most - 1 else None
        brought.append((part.references, part.inline))
        results.append(([], []) if fails else outputs_of(part, size=size))
        sent, kept = results[-1]
        ended = Ended(following, error=fails) if fails else Ended(following, [sent], [kept])
        ends.append(End(ended, fails, state.now))
        if len(ends) < len(runs):
            following = runs[len(ends)]
        else:
            following = core.follower(ended) if comparison.decision.wake_at > state.now else None
    counted = core.ended_in_place(ends)
    for number, end in enumerate(ends):
        run = end.ended.run
        counts = any(each is end for each in counted)
        if number >= len(runs):
            with _bringing(run, *brought[number]):
                has_failed = (lambda _: False) if counts else checks.has_failed
                comparison.reference.follow(run, has_failed, starts=counts)
        if counts:
            comparison.reference.execution.run_ended(run, [results[number]], end.error.code.name if end.error else None)
    comparison.compare()


@contextmanager
def _bringing(run: Run, references: Sequence[Tensor], inline: Sequence[Buffer]) -> Iterator[None]:
    """Have a ticket that may have ended bring to its run what it brought."""
    (part,) = run.parts
    assert isinstance(part, Ticket)
    before = part.references, part.inline
    part.references, part.inline = references, inline
    yield
    part.references, part.inline = before
