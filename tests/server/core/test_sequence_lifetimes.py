"""How long sequences live: without requests, and with the version of their model."""

from __future__ import annotations

import pytest

from headrace.server.core.limits import Limits
from headrace.server.core.sequences import SEQUENCE_BYTES
from tests.server.core.sequence_world import ENDED, SequenceWorld, recurrent


class TestTime:
    def test_a_sequence_without_a_ticket_ends(self) -> None:
        world = SequenceWorld(limits=Limits(keep_seconds=5))
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.runs()
        assert world.core.decide(world.now).wake_at == world.now + 5
        world.after(4)
        world.send(stream, 2, 7)
        world.runs()
        world.after(4.9)
        assert world.charged == SEQUENCE_BYTES
        world.after(0.1)
        assert world.charged == 0
        world.send(stream, 3, 7)
        world.runs()
        assert world.ends == {1: "done", 2: "done", 3: "FAILED_PRECONDITION"}
        assert world.message(3) == f"sequence 7 of model 'm' has ended: it had no request for 5 s{ENDED}"

    def test_not_while_a_ticket_is_in_flight(self) -> None:
        world = SequenceWorld(limits=Limits(keep_seconds=5))
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.starts()
        world.after(60)
        world.send(stream, 2, 7)
        world.end(1)
        assert world.runs() == [2]
        world.send(stream, 3, 7)
        world.starts()
        world.after(60)
        world.end(3)
        world.send(stream, 4, 7)
        assert world.runs() == [4]


class TestModels:
    @pytest.mark.parametrize("unload", [False, True])
    def test_a_version_that_goes_ends_its_sequences(self, unload: bool) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, 7)
        world.send(stream, 3, 8, "start end")
        world.starts()
        if unload:
            world.core.models.remove("m", "1", "has been unloaded")
            world.starts()
        world.reload()
        world.send(stream, 4, 7)
        for tag in (1, 3):
            world.end(tag)
        world.runs()
        assert world.ends == {1: "done", 2: "done", 3: "done", 4: "FAILED_PRECONDITION"}
        assert world.message(4) == (
            f"sequence 7 of model 'm' has ended: version 1 of the model was unloaded or replaced{ENDED}"
        )
        assert world.charged == 0
        world.send(stream, 5, 7, "start")
        world.send(stream, 6, 7)
        assert world.runs() == [5, 6]
        assert world.specs[6] is not world.specs[2]

    def test_a_sequence_stays_on_its_version(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.runs()
        world.core.models.add(recurrent(version="2"))
        world.send(stream, 2, 7)
        world.send(stream, 3, 8, "start")
        world.send(stream, 4, 7, version="1")
        world.runs()
        assert [world.specs[tag].version for tag in (1, 2, 3, 4)] == ["1", "1", "2", "1"]
        world.send(stream, 5, 7, version="2")
        world.send(stream, 6, 8, "start", version="1")
        world.runs()
        assert world.ends[5] == "FAILED_PRECONDITION"
        assert world.message(5) == "sequence 7 of model 'm' runs on version 1, not on 2"
        assert world.specs[6].version == "1"
