"""Ratios of one way to another in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.bench.measuring.bounds import NO_BOUND, Bound
from tests.bench.measuring.ratio import Ratio
from tests.bench.measuring.rounds import Measured
from tests.bench.measuring.spread import spread
from tests.bench.measuring.turn import Turn

BEFORE = "before"
"""The name of a way that all others are compared with."""


def between_ways(measured: Sequence[Measured], builds: Mapping[str, str]) -> Iterator[Ratio]:
    """Every way over the one called `before`, and compiled code over pure Python, as far as there are both."""
    by_way = {(each.case.name, each.way): each for each in measured}
    for each in measured:
        case, figure = each.case, each.case.figure.of
        before = by_way.get((case.name, BEFORE))
        if before is not None and before is not each:
            yield from _over(each, before, "before", figure, NO_BOUND)
            bound = case.server_time if case.earlier_server_time is not None else NO_BOUND
            yield from _over(each, before, "server-time", lambda turn: turn.server_us, bound)
        pure = by_way.get((case.name, builds.get("pure", "")))
        if pure is not None and each.way == builds.get("compiled") and case.compiled.must is not None:
            yield from _over(each, pure, "compiled", figure, case.compiled)


TITLES = {"before": "over before's", "server-time": "server's time over before's", "compiled": "compiled over pure"}


def _over(
    ours: Measured, other: Measured, kind: str, of: Callable[[Turn], float | None], bound: Bound
) -> Iterator[Ratio]:
    """The ratio, if both ways have the figure in any round."""
    pairs = [(of(ours.rounds[at].turn), of(other.rounds[at].turn)) for at in ours.rounds.keys() & other.rounds.keys()]
    values = [one / two for one, two in pairs if one is not None and two is not None]
    if values:
        name, title = f"{ours.case.name}:{kind}", f"{ours.case.title}: {TITLES[kind]}"
        failed = bool(ours.failure or other.failure)
        yield Ratio(name, title, ours.way, spread(values), bound, len(values), incomplete=failed)
