"""The deadline of one inference, from its arrival, waiting included; and cancelling one."""

from __future__ import annotations

import math

import pytest

from headrace.server.core.engine_api import Ended
from headrace.server.core.limits import Limits
from headrace.wire.errors import Cancelled, DeadlineExceeded, Internal
from tests.server.core.scenario import Scenario


class TestDeadline:
    def test_of_a_waiting_a_queued_and_a_running_ticket(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"], timeout=5)
        client.infer(2, timeout=4)
        client.infer(3, x="take 1.y", timeout=3)
        assert world.starts() == [1]
        assert world.passes(2.5) == []
        assert client.hears() == []
        for seconds, tag in ((0.5, 3), (1, 2), (1, 1)):
            assert world.passes(seconds) == []
            assert client.hears() == [f"failed {tag} DEADLINE_EXCEEDED"]
        error = client.errors[1]
        assert isinstance(error, DeadlineExceeded)
        assert error.message == "ticket 1 had not ended 5.000000 s after it arrived"
        assert not error.retryable
        assert world.stopping == [1]
        assert client.live == set()
        assert world.settled().wake_at == math.inf

    def test_is_when_to_look_again(self) -> None:
        world = Scenario()
        client = world.client()
        assert world.settled().wake_at == math.inf
        client.infer(1, timeout=3)
        client.infer(2, timeout=2)
        client.infer(3)
        assert world.decide().wake_at == world.now + 2
        world.end(1)
        assert world.runs() == [2, 3]
        assert world.settled().wake_at == math.inf

    def test_expired_work_never_starts(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1)
        client.infer(2, timeout=1)
        assert world.starts() == [1]
        world.end(1)
        assert world.passes(1) == []
        assert client.hears() == ["done 1", "failed 2 DEADLINE_EXCEEDED"]

    def test_and_what_has_run_before_it_has_run(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, timeout=1)
        world.starts()
        world.now += 1
        world.end(1)
        assert world.starts() == []
        assert client.hears() == ["done 1"]
        assert world.stopping == []

    def test_after_its_end_it_is_forgotten(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, timeout=1, keep=["y"])
        client.infer(2, timeout=1, tensors=[])
        world.runs()
        world.passes(5)
        assert client.hears() == ["failed 2 INVALID_ARGUMENT", "done 1"]
        assert client.live == {1}

    def test_thousands_of_them_take_no_room_when_they_have_ended(self) -> None:
        world = Scenario()
        client = world.client()
        for tag in range(1, 3000):
            client.infer(tag, timeout=3600)
            world.runs()
            client.hears()
        assert len(world.core._completion.timeouts._heap) <= 65


class TestCancel:
    def test_of_a_waiting_a_queued_and_a_running_ticket(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2)
        client.infer(3, x="1.y")
        client.infer(4)
        client.fetch(5, "1.y")
        assert world.starts() == [1]
        for tag in (3, 2, 5, 1):
            client.cancel(tag)
        assert client.hears() == [f"failed {tag} CANCELLED" for tag in (3, 2, 5, 1)]
        error = client.errors[2]
        assert isinstance(error, Cancelled)
        assert error.message == "ticket 2 was cancelled"
        assert client.live == {4}
        assert world.starts() == []
        assert world.stopping == [1]
        world.end(1)
        assert world.starts() == [4]

    def test_a_slot_is_stopping_until_the_runtime_lets_go(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1)
        client.infer(2)
        model = world.core.models.find("step")
        assert repr(model) == "<ModelQueue step/1 0 running, 0 stopping, 0 restoring, 1 free, 2 queued>"
        world.starts()
        assert repr(model) == "<ModelQueue step/1 1 running, 0 stopping, 0 restoring, 0 free, 1 queued>"
        client.cancel(1)
        assert repr(model) == "<ModelQueue step/1 0 running, 1 stopping, 0 restoring, 0 free, 1 queued>"
        assert world.starts() == []
        assert world.core.queue.used == 32
        world.end(1)
        assert repr(model) == "<ModelQueue step/1 0 running, 0 stopping, 0 restoring, 1 free, 1 queued>"
        assert world.core.queue.used == 16
        assert world.starts() == [2]

    @pytest.mark.parametrize("error", [None, Internal("too late")])
    def test_the_result_of_a_stopped_run_is_nobodys(self, error: Internal | None) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"], outputs=["y"])
        world.starts()
        client.cancel(1)
        client.infer(2, x="1.y")
        world.end(1, error)
        assert client.hears() == ["failed 1 CANCELLED", "failed 2 FAILED_PRECONDITION"]
        assert world.core.keep.used == 0
        assert client.stream.unsent_bytes == 0

    def test_a_run_that_has_ended_is_not_stopped(self) -> None:
        """The next run in its slot would be."""
        world = Scenario()
        client = world.client()
        client.infer(1)
        client.infer(2)
        assert world.starts() == [1]
        client.cancel(1)
        world.end(1)
        assert world.starts() == [2]
        assert world.stopping == []

    def test_its_tag_is_free_while_its_run_stops(self) -> None:
        world = Scenario(slots=2)
        client = world.client()
        client.infer(1)
        assert world.starts() == [1]
        client.cancel(1)
        assert world.starts() == []
        assert client.hears() == ["failed 1 CANCELLED"]
        client.infer(1, outputs=["y"])
        first = world.running.pop(1)
        assert world.starts() == [1]
        assert world.running[1].slot != first.slot
        world.core.run_ended(Ended(first), None, world.now)
        assert client.hears() == []
        world.end(1)
        assert client.hears() == ["done 1"]

    def test_after_its_end_it_is_ignored(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.cancel(1)
        assert client.hears() == ["done 1"]
        client.cancel(1)
        client.fetch(2, "1.y")
        client.cancel(2)
        assert client.hears() == ["fetched 2"]
        assert client.live == {1}

    def test_twice(self) -> None:
        world = Scenario(limits=Limits(window=1))
        client = world.client()
        client.infer(1)
        client.cancel(1)
        client.cancel(1)
        assert client.hears() == ["failed 1 CANCELLED"]
        assert client.stream.in_flight == 0
