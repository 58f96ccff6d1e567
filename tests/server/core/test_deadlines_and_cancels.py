"""The deadline of one inference, which runs from its arrival and includes waiting, and its cancellation."""

from __future__ import annotations

import math

import pytest

from headrace.server.core.engine_api import Ended
from headrace.server.core.limits import Limits
from headrace.wire.errors import Cancelled, DeadlineExceeded, Internal
from tests.server.core.scenario import Scenario


class TestDeadline:
    def test_a_deadline_ends_waiting_queued_and_running_tickets(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"], timeout=5)
        client.infer(2, timeout=4)
        client.infer(3, x="take 1.y", timeout=3)
        assert world.starts() == [1]
        assert world.after(2.5) == []
        assert client.receives() == []
        for seconds, tag in ((0.5, 3), (1, 2), (1, 1)):
            assert world.after(seconds) == []
            assert client.receives() == [f"failed {tag} DEADLINE_EXCEEDED"]
        error = client.errors[1]
        assert isinstance(error, DeadlineExceeded)
        assert error.message == "ticket 1 had not ended 5.000000 s after it arrived"
        assert not error.retryable
        assert world.stopping == [1]
        assert client.live == set()
        assert world.settled().wake_at == math.inf

    def test_the_next_deadline_is_when_the_core_decides_again(self) -> None:
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

    def test_a_ticket_whose_deadline_has_passed_never_starts(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1)
        client.infer(2, timeout=1)
        assert world.starts() == [1]
        world.end(1)
        assert world.after(1) == []
        assert client.receives() == ["done 1", "failed 2 DEADLINE_EXCEEDED"]

    def test_a_run_that_ends_at_its_deadline_before_the_core_looks_is_done(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, timeout=1)
        world.starts()
        world.now += 1
        world.end(1)
        assert world.starts() == []
        assert client.receives() == ["done 1"]
        assert world.stopping == []

    def test_the_deadline_of_an_ended_ticket_is_forgotten(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, timeout=1, keep=["y"])
        client.infer(2, timeout=1, tensors=[])
        world.runs()
        world.after(5)
        assert client.receives() == ["failed 2 INVALID_ARGUMENT", "done 1"]
        assert client.live == {1}

    def test_thousands_of_ended_deadlines_take_no_memory(self) -> None:
        world = Scenario()
        client = world.client()
        for tag in range(1, 3000):
            client.infer(tag, timeout=3600)
            world.runs()
            client.receives()
        assert len(world.core._completion.timeouts._heap) <= 65


class TestCancel:
    def test_a_cancel_ends_waiting_queued_and_running_tickets(self) -> None:
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
        assert client.receives() == [f"failed {tag} CANCELLED" for tag in (3, 2, 5, 1)]
        error = client.errors[2]
        assert isinstance(error, Cancelled)
        assert error.message == "ticket 2 was cancelled"
        assert client.live == {4}
        assert world.starts() == []
        assert world.stopping == [1]
        world.end(1)
        assert world.starts() == [4]

    def test_the_slot_of_a_cancelled_run_is_stopping_until_the_runtime_lets_go(self) -> None:
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
        assert world.core.accounts.queue.used == 32
        world.end(1)
        assert repr(model) == "<ModelQueue step/1 0 running, 0 stopping, 0 restoring, 1 free, 1 queued>"
        assert world.core.accounts.queue.used == 16
        assert world.starts() == [2]

    @pytest.mark.parametrize("error", [None, Internal("too late")])
    def test_the_result_of_a_stopped_run_is_dropped(self, error: Internal | None) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"], outputs=["y"])
        world.starts()
        client.cancel(1)
        client.infer(2, x="1.y")
        world.end(1, error)
        assert client.receives() == ["failed 1 CANCELLED", "failed 2 FAILED_PRECONDITION"]
        assert world.core.accounts.keep.used == 0
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

    def test_the_tag_of_a_cancelled_ticket_is_free_while_its_run_stops(self) -> None:
        world = Scenario(slots=2)
        client = world.client()
        client.infer(1)
        assert world.starts() == [1]
        client.cancel(1)
        assert world.starts() == []
        assert client.receives() == ["failed 1 CANCELLED"]
        client.infer(1, outputs=["y"])
        first = world.running.pop(1)
        assert world.starts() == [1]
        assert world.running[1].slot != first.slot
        world.core.run_ended(Ended(first), None, world.now)
        assert client.receives() == []
        world.end(1)
        assert client.receives() == ["done 1"]

    def test_a_cancel_after_the_end_is_ignored(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.cancel(1)
        assert client.receives() == ["done 1"]
        client.cancel(1)
        client.fetch(2, "1.y")
        client.cancel(2)
        assert client.receives() == ["fetched 2"]
        assert client.live == {1}

    def test_a_second_cancel_is_ignored(self) -> None:
        world = Scenario(limits=Limits(window=1))
        client = world.client()
        client.infer(1)
        client.cancel(1)
        client.cancel(1)
        assert client.receives() == ["failed 1 CANCELLED"]
        assert client.stream.in_flight == 0
