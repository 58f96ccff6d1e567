"""The ratios of a run, and what is demanded of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.measuring.bounds import Bound, Verdict
from tests.bench.measuring.rounds import Measured, Round
from tests.bench.measuring.spread import Spread, spread
from tests.bench.measuring.turn import Figure

MIN_FAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Ratio:
    name: str
    """The name of the case, and of what is compared if that is not its figure with its reference."""
    title: str
    way: str
    spread: Spread
    bound: Bound
    rounds: int
    """How many rounds count."""
    slow_echo: bool = False
    """Whether rounds count in which the echo was in its slow mode."""
    incomplete: bool = False
    """Whether rounds are missing because they failed."""

    @property
    def verdict(self) -> Verdict:
        return self.bound.verdict(self.spread.median)

    @property
    def close(self) -> bool:
        return self.bound.is_close(self.spread)

    @property
    def notes(self) -> list[str]:
        """What else is to be known before the verdict is believed."""
        known = {"close": self.close, "echo slow": self.slow_echo, "rounds failed": self.incomplete}
        return [note for note, applies in known.items() if applies]


def ratios(measured: Sequence[Measured], builds: Mapping[str, str]) -> list[Ratio]:
    """All ratios, those of the same name one after the other.

    `builds`: the way that is `compiled` and the one that is `pure`, as far as there are any.
    """
    found = [*_to_references(measured), *_compiled_over_pure(measured, builds)]
    names = list(dict.fromkeys(each.name for each in found))
    return sorted(found, key=lambda each: names.index(each.name))


def counted_rounds(rounds: Sequence[Round]) -> list[Round]:
    """Those in which the echo was in its fast mode, if there are enough of them; else all.

    A few could be those in which others disturbed the server and not the echo.
    """
    fast = [each for each in rounds if each.echo is None or each.echo.fast]
    return fast if len(fast) >= MIN_FAST_ROUNDS else list(rounds)


def _to_references(measured: Sequence[Measured]) -> Iterator[Ratio]:
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
        if case.earlier_server_time is not None:
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


def _compiled_over_pure(measured: Sequence[Measured], builds: Mapping[str, str]) -> Iterator[Ratio]:
    if not {"compiled", "pure"} <= builds.keys():
        return
    by_way = {(each.case.name, each.way): each for each in measured}
    for each in measured:
        pure = by_way.get((each.case.name, builds["pure"]))
        if each.way != builds["compiled"] or each.case.compiled.must is None or pure is None:
            continue
        both = sorted(each.rounds.keys() & pure.rounds.keys())
        if both:
            figure = each.case.figure.of
            values = [figure(each.rounds[at].turn) / figure(pure.rounds[at].turn) for at in both]
            title = f"{each.case.title}: compiled / pure"
            name = f"{each.case.name}:compiled"
            failed = bool(each.failure or pure.failure)
            bound = each.case.compiled
            yield Ratio(name, title, each.way, spread(values), bound, len(values), incomplete=failed)
