"""The ratios of a run, and what is demanded of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.bench.measuring.between_ways import BEFORE, between_ways
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.ratio import Ratio
from tests.bench.measuring.rounds import Measured, Round
from tests.bench.measuring.spread import spread
from tests.bench.measuring.turn import Figure

MIN_FAST_ROUNDS = 3


def ratios(measured: Sequence[Measured], builds: Mapping[str, str]) -> list[Ratio]:
    """All ratios, those of the same name one after the other.

    `builds`: the way that is `compiled` and the one that is `pure`, as far as there are any.
    """
    found = [*_to_references(measured), *between_ways(measured, builds)]
    names = list(dict.fromkeys(each.name for each in found))
    return sorted(found, key=lambda each: names.index(each.name))


def counted_rounds(rounds: Sequence[Round]) -> list[Round]:
    """Those in which the echo was in its fast mode, if there are enough of them; else all.

    A few could be those in which others disturbed the server and not the echo.
    """
    fast = [each for each in rounds if each.echo is None or each.echo.fast]
    return fast if len(fast) >= MIN_FAST_ROUNDS else list(rounds)


def _to_references(measured: Sequence[Measured]) -> Iterator[Ratio]:
    has_before = any(each.way == BEFORE for each in measured)
    for each in measured:
        case = each.case
        if not each.rounds:
            continue
        if case.reference is None:
            if case.bound.must is not None:
                yield _ratio(case.name, case.title, each, list(each.rounds.values()), _own(case.figure), case.bound)
            continue
        counted = counted_rounds(list(each.rounds.values()))
        slow = any(one.echo is not None and not one.echo.fast for one in counted)
        title = f"{case.title} / {case.reference.title}"
        yield _ratio(case.name, title, each, counted, _figures(each), case.bound, slow_echo=slow)
        if case.earlier_server_time is not None and not has_before:
            earlier = case.earlier_server_time
            title = f"{case.title}: server's time / the earlier one"
            yield _ratio(f"{case.name}:server-time", title, each, counted, _server_times(earlier), case.server_time)


def _ratio(
    name: str,
    title: str,
    measured: Measured,
    rounds: Sequence[Round],
    of: Callable[[Round], float],
    bound: Bound,
    *,
    slow_echo: bool = False,
) -> Ratio:
    values = spread([of(each) for each in rounds])
    return Ratio(name, title, measured.way, values, bound, len(rounds), slow_echo, bool(measured.failure))


def _own(figure: Figure) -> Callable[[Round], float]:
    """Of a figure with a bound of its own."""
    return lambda each: figure.of(each.turn)


def _figures(measured: Measured) -> Callable[[Round], float]:
    case = measured.case

    def of(each: Round) -> float:
        assert case.reference is not None
        assert each.reference is not None
        return case.figure.of(each.turn) / case.reference.figure.of(each.reference)

    return of


def _server_times(earlier: float) -> Callable[[Round], float]:
    def of(each: Round) -> float:
        ours, echo = each.turn.server_us, each.reference.server_us if each.reference else None
        assert ours is not None
        assert echo is not None
        return ours / echo / earlier

    return of
