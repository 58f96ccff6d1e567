"""The order of turns, and what becomes of those that fail."""

from __future__ import annotations

from pathlib import Path

from tests.bench.cases.case import Case, Reference, Serving, Setting
from tests.bench.measuring.noise import Noise
from tests.bench.measuring.rounds import measure
from tests.bench.measuring.turn import Turn, TurnFailed
from tests.bench.references.echo import Echo
from tests.bench.serving.server import Server
from tests.bench.serving.ways import Way

SETTING = Setting(0.1, Path(), Echo("", 0))
SERVERS = [Server(Way(name, ()), "", 0) for name in ("here", "aio")]


class Recorder:
    """Turns that only take note of whose they are; the first so many of a way may fail."""

    def __init__(self, failing: str = "") -> None:
        self.order: list[str] = []
        self._failing = failing

    def turn(self, _: Setting, server: Server) -> Turn:
        return self._take(server.way.name)

    def reference(self, _: Setting) -> Turn:
        return self._take("echo")

    def reference_of_server(self, _: Setting, server: Server) -> Turn:
        return self._take(f"{server.way.name}'s")

    def _take(self, name: str) -> Turn:
        self.order.append(name)
        if name == self._failing:
            self._failing = ""
            raise TurnFailed(f"{name} has ended")
        return Turn(len(self.order), 1.0)

    def case(self, reference: Reference | None) -> Case:
        return Case("c", "c", Serving(lambda _: []), self.turn, reference=reference)


def test_every_other_round_goes_backwards() -> None:
    recorder = Recorder()
    found = measure(recorder.case(Reference("echo", recorder.reference)), SERVERS, SETTING, Noise(), 2)
    assert recorder.order == ["echo", "here", "aio", "aio", "here", "echo"]
    here = found[0].rounds
    assert [(each.turn.requests, each.reference and each.reference.requests) for each in here.values()] == [
        (2, 1),
        (5, 6),
    ]


def test_a_reference_of_the_same_server_is_measured_for_each_way() -> None:
    recorder = Recorder()
    reference = Reference("other", turn_of_server=recorder.reference_of_server)
    found = measure(recorder.case(reference), SERVERS, SETTING, Noise(), 1)
    assert recorder.order == ["here", "here's", "aio", "aio's"]
    assert [each.rounds[0].reference and each.rounds[0].reference.requests for each in found] == [2, 4]


def test_another_figure_of_the_same_turn_can_be_the_reference() -> None:
    recorder = Recorder()
    found = measure(recorder.case(Reference("p50")), SERVERS[:1], SETTING, Noise(), 1)
    assert recorder.order == ["here"]
    assert found[0].rounds[0].reference is found[0].rounds[0].turn


def test_a_turn_that_fails_leaves_its_way_out_of_the_round() -> None:
    recorder = Recorder(failing="aio")
    here, aio = measure(recorder.case(Reference("echo", recorder.reference)), SERVERS, SETTING, Noise(), 2)
    assert list(here.rounds) == [0, 1]
    assert list(aio.rounds) == [1]
    assert (here.missing, aio.missing) == ("", "1 of 2 rounds failed: aio has ended")


def test_a_reference_that_fails_leaves_all_ways_out_of_the_round() -> None:
    recorder = Recorder(failing="echo")
    found = measure(recorder.case(Reference("echo", recorder.reference)), SERVERS, SETTING, Noise(), 2)
    assert [list(each.rounds) for each in found] == [[1], [1]]
    assert {each.failure for each in found} == {"echo has ended"}
