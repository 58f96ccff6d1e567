"""What clients have not taken: beyond a limit their tickets wait, and beyond another nothing is read from them."""

from __future__ import annotations

from headrace.server.core.limits import Limits
from tests.server.core.scenario import Scenario


class TestUnsentBytes:
    """A stream whose unsent output bytes exceed its budget starts no further ticket except its oldest in flight."""

    def world(self) -> Scenario:
        return Scenario(limits=Limits(unsent_bytes=31))

    def test_a_client_that_does_not_read_blocks_only_itself(self) -> None:
        world = self.world()
        alice, bob = world.client(), world.client()
        for tag in range(1, 6):
            alice.infer(tag, outputs=["y"])
            bob.infer(tag + 10)
        assert world.runs() == [1, 11, 2, 12, 13, 14, 15]
        assert alice.stream.unsent_bytes == 32
        assert alice.receives() == ["done 1", "done 2"]
        assert world.runs() == [3, 4]
        assert alice.receives() == ["done 3", "done 4"]
        assert world.runs() == [5]

    def test_output_bytes_are_unsent_until_they_are_flushed(self) -> None:
        world = self.world()
        client = world.client()
        for tag in (1, 2, 3, 4):
            client.infer(tag, outputs=["y"])
        assert world.runs() == [1, 2]
        world.take(client.stream)
        assert client.stream.unsent_bytes == 32
        # The oldest in flight, for which others may wait, goes on.
        assert world.runs() == [3]
        assert world.runs() == []
        world.core.flushed(client.stream)
        assert world.runs() == [4]

    def test_everything_unsent_may_wait_for_the_oldest_infer(self) -> None:
        world = Scenario(slots=2, limits=Limits(unsent_bytes=0))
        client, other = world.client(ordered=True), world.client()
        other.infer(11)
        other.infer(12)
        assert world.starts() == [11, 12]
        client.infer(1)
        client.infer(2, outputs=["y"], priority=1)
        client.infer(3, priority=2)
        world.end(11)
        assert world.starts() == [3]
        world.end(12)
        assert world.starts() == [2]
        world.end(2)
        assert client.stream.unsent_bytes == 16
        world.end(3)
        client.infer(4, priority=9)
        assert world.starts() == [1]
        assert client.receives() == []
        world.end(1)
        assert world.starts() == []
        assert client.receives() == ["done 1", "done 2", "done 3"]
        assert world.starts() == [4]

    def test_the_oldest_infer_is_the_first_admitted_not_the_first_ready(self) -> None:
        world = Scenario(limits=Limits(unsent_bytes=15))
        client, other = world.client(), world.client()
        other.infer(11)
        assert world.starts() == [11]
        client.infer(1, "grow", keep=["y"], outputs=["y"])
        client.infer(2, x="1.y")
        client.infer(3)
        assert world.starts() == [1]
        world.end(1)
        world.take(client.stream)
        world.end(11)
        assert world.starts() == [2]
        world.end(2)
        assert world.starts() == []

    def test_a_backpressured_stream_does_not_lose_its_turn(self) -> None:
        world = self.world()
        alice, bob = world.client(), world.client()
        for tag in (1, 2, 3):
            alice.infer(tag, outputs=["y"])
        assert world.runs() == [1, 2]
        bob.infer(11)
        bob.infer(12)
        alice.receives()
        assert world.runs() == [3, 11, 12]

    def test_streams_come_back_in_the_order_of_their_turns_whichever_is_read_first(self) -> None:
        world = self.world()
        clients = [world.client() for _ in range(3)]
        other = world.client()
        for tag in (1, 2, 3):
            for number, client in enumerate(clients):
                client.infer(10 * number + tag, outputs=["y"])
        assert world.runs() == [1, 11, 21, 2, 12, 22]
        for tag in (101, 102):
            other.infer(tag)
        for client in reversed(clients):
            client.receives()
        assert world.runs() == [3, 13, 23, 101, 102]

    def test_only_a_stream_that_was_passed_over_makes_a_flush_decide(self) -> None:
        world = self.world()
        passed_over, idle = world.client(), world.client()
        for client, tags in ((passed_over, (1, 2, 3, 4)), (idle, (11, 12))):
            for tag in tags:
                client.infer(tag, outputs=["y"])
        assert world.runs() == [1, 11, 2, 12]
        for client in (passed_over, idle):
            world.take(client.stream)
        assert world.runs() == [3]
        assert world.core.flushed(passed_over.stream)
        assert world.runs() == [4]
        assert not world.core.flushed(idle.stream)
        assert world.runs() == []

    def test_fetched_bytes_count_as_unsent(self) -> None:
        world = self.world()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.receives()
        client.fetch(2, "1.y")
        client.fetch(3, "1.y", (0, 1))
        assert client.stream.unsent_bytes == 20
        client.fetch(4, "1.y")
        client.infer(5)
        client.infer(6)
        assert world.runs() == [5]
        assert client.receives() == ["fetched 2", "fetched 3", "fetched 4", "done 5"]
        assert client.stream.unsent_bytes == 0
        assert world.runs() == [6]


def test_commands_are_read_while_fewer_than_two_windows_of_events_are_unsent() -> None:
    world = Scenario(limits=Limits(window=2))
    client = world.client()
    for _ in range(3):
        client.infer(0)
    assert client.stream.may_read
    client.infer(0)
    assert not client.stream.may_read
    client.receives()
    assert client.stream.may_read
