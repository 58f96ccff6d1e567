"""The limits of a client, over all its streams: at their edges, and given back however a ticket ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.clients import NO_LIMITS, RETRY_SECONDS, Client, ClientLimits
from headrace.server.core.limits import Limits
from tests.server.core.scenario import Scenario


def limited(**limits: float) -> Client:
    return Client("camera", ClientLimits(**limits))  # type: ignore[arg-type]


def passes(client: Client, now: float) -> bool:
    if client.infer(0, now) is not None:
        return False
    client.admitted(now)
    return True


def wait(client: Client, now: float) -> float:
    """In how many seconds it may ask again."""
    refused = client.infer(0, now)
    assert refused is not None
    assert refused.retryable
    assert refused.retry_after is not None
    return refused.retry_after


class TestRates:
    def test_a_burst_passes_and_then_one_for_each_interval(self) -> None:
        client = limited(rate=10, burst=3)
        assert [passes(client, 5.0) for _ in range(4)] == [True, True, True, False]
        assert wait(client, 5.0) == pytest.approx(0.1)
        assert not passes(client, 5.0999)
        assert passes(client, 5.1)
        assert not passes(client, 5.1)

    def test_whoever_waits_as_long_as_it_was_told_passes(self) -> None:
        """At any time of the clock, and for rates that no float holds."""
        for rate in (0.3, 3, 7, 30, 700, 1e6):
            client, now = limited(rate=rate, burst=1), 86_400 * 365.25
            for _ in range(1000):
                assert passes(client, now)
                now += wait(client, now)

    def test_a_pause_gives_back_a_burst_and_no_more(self) -> None:
        client = limited(rate=2, burst=4)
        assert [passes(client, 1.0) for _ in range(5)] == [True] * 4 + [False]
        assert [passes(client, 2.0) for _ in range(3)] == [True, True, False]
        assert [passes(client, 1000.0) for _ in range(5)] == [True] * 4 + [False]

    def test_the_burst_is_one_second_unless_it_is_given_and_at_least_one(self) -> None:
        for rate, burst in ((5, 5), (0.1, 1)):
            client = limited(rate=rate)
            assert sum(passes(client, 0.0) for _ in range(20)) == burst

    def test_in_the_long_run_the_rate_holds(self) -> None:
        client = limited(rate=100, burst=10)
        passed = sum(passes(client, tick / 1000) for tick in range(10_000))
        assert passed == pytest.approx(1000 + 10, abs=1)

    def test_a_refusal_counts_for_nothing(self) -> None:
        client = limited(rate=1, burst=1)
        assert passes(client, 0.0)
        assert not any(passes(client, 0.9) for _ in range(100))
        assert passes(client, 1.0)

    def test_without_a_limit_all_pass(self) -> None:
        client = Client("camera", NO_LIMITS)
        assert all(passes(client, 0.0) for _ in range(10_000))

    def test_another_rate_holds_at_once(self) -> None:
        client = limited(rate=1, burst=1)
        assert passes(client, 0.0)
        client.limits = ClientLimits(rate=1000, burst=1)
        assert [passes(client, 1.0) for _ in range(2)] == [True, False]
        assert wait(client, 1.0) == pytest.approx(0.001)


class TestTickets:
    def test_those_of_all_streams_count_together(self) -> None:
        world, camera = Scenario(), limited(tickets=2)
        first, second, other = world.client(camera), world.client(camera), world.client(limited(tickets=2))
        first.infer(1, keep=["y"])
        second.infer(11)
        second.infer(12)
        first.fetch(2, "1.y")
        other.infer(21)
        assert first.receives() == ["failed 2 RESOURCE_EXHAUSTED"]
        assert second.receives() == ["failed 12 RESOURCE_EXHAUSTED"]
        assert second.errors[12].message == "'camera' has 2 tickets in flight, which is its limit"
        assert (second.errors[12].retryable, second.errors[12].retry_after) == (True, RETRY_SECONDS)
        assert second.live == {11}
        assert sorted(world.runs()) == [1, 11, 21]
        assert second.receives() == ["done 11"]
        second.infer(12)
        assert world.runs() == [12]

    def test_they_are_given_back_however_they_end(self) -> None:
        world, camera = Scenario(), limited(tickets=8)
        ends, vanishes = world.client(camera), world.client(camera)
        ends.infer(1, keep=["y"])
        ends.infer(2)
        ends.infer(3, tensors=[b"bad"])
        ends.infer(4, timeout=1)
        ends.fetch(5, "1.y")
        ends.cancel(2)
        vanishes.infer(11)
        vanishes.infer(12)
        assert camera.in_flight == 7
        vanishes.vanish()
        assert camera.in_flight == 5
        assert world.after(2) == [1]
        world.end(1)
        world.runs()
        ends.receives()
        assert (camera.in_flight, camera.nbytes) == (0, 0)


class TestBytes:
    def test_those_of_inputs_in_flight_count_together(self) -> None:
        """Each Infer of `step` has 16."""
        world, camera = Scenario(), limited(nbytes=40)
        first, second = world.client(camera), world.client(camera)
        first.infer(1, keep=["y"])
        second.infer(11)
        second.infer(12)
        first.infer(2, x="1.y")
        assert second.receives() == ["failed 12 RESOURCE_EXHAUSTED"]
        error = second.errors[12]
        assert error.message == "16 more input bytes do not fit: 'camera' has 32 in flight, and may have 40"
        assert (error.retryable, error.retry_after) == (True, RETRY_SECONDS)
        assert sorted(world.runs()) == [1, 2, 11]
        assert camera.nbytes == 0
        second.infer(12)
        assert world.runs() == [12]

    def test_a_message_that_never_fits_is_not_to_be_sent_again(self) -> None:
        world, camera = Scenario(), limited(nbytes=15)
        client = world.client(camera)
        client.infer(1)
        assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED"]
        assert not client.errors[1].retryable
        assert client.errors[1].retry_after is None

    def test_an_infer_over_another_limit_does_not_count_for_the_rate(self) -> None:
        world, camera = Scenario(), limited(nbytes=16, rate=1, burst=2)
        client = world.client(camera)
        client.infer(1)
        client.infer(2)
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED"]
        assert "input bytes" in client.errors[2].message
        world.runs()
        client.infer(3)
        world.runs()
        client.infer(4)
        assert client.receives() == ["done 1", "done 3", "failed 4 RESOURCE_EXHAUSTED"]
        assert "inferences a second" in client.errors[4].message

    def test_what_the_server_has_no_place_for_does_not_count_for_the_rate(self) -> None:
        """The rate allows four at once. One runs and one waits, as many as may."""
        world, camera = Scenario(limits=Limits(max_queue=1)), limited(rate=1, burst=4)
        client = world.client(camera)
        for tag in range(1, 11):
            client.infer(tag)
        assert client.receives() == [f"failed {tag} RESOURCE_EXHAUSTED" for tag in range(3, 11)]
        assert all("tickets wait" in error.message for error in client.errors.values())
        assert world.runs() == [1, 2]
        client.infer(11)
        client.infer(12, tensors=[b"bad"])  # it is admitted, and fails
        client.infer(13)
        assert client.receives() == [
            "done 1",
            "done 2",
            "failed 12 INVALID_ARGUMENT",
            "failed 13 RESOURCE_EXHAUSTED",
        ]
        assert "inferences a second" in client.errors[13].message
        assert world.runs() == [11]
        # Whoever is refused for the rate is told when to come back, and passes then.
        world.now += client.errors[13].retry_after or 0.0
        client.infer(14)
        assert world.runs() == [14]

    def test_one_that_is_admitted_counts_even_if_it_makes_room_later(self) -> None:
        world, camera = Scenario(limits=Limits(max_queue=1)), limited(rate=1, burst=1)
        client, others = world.client(camera), world.client()
        others.infer(101)
        assert world.starts() == [101]
        client.infer(1)
        others.infer(102, priority=1)
        assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED"]
        world.end(101)
        assert world.runs() == [102]
        client.infer(2)
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED"]
        assert "inferences a second" in client.errors[2].message


def test_turns_go_round_clients_whatever_their_streams() -> None:
    world = Scenario()
    camera, other = limited(), limited()
    streams = [world.client(camera) for _ in range(3)]
    alone = world.client(other)
    streams[0].infer(1)
    assert world.starts() == [1]
    for number, stream in enumerate(streams):
        stream.infer(10 + number)
        stream.infer(20 + number)
    for tag in (101, 102, 103):
        alone.infer(tag)
    world.end(1)
    order = world.runs()
    assert [tag > 100 for tag in order[:6]] in ([True, False] * 3, [False, True] * 3)


def test_limits_do_not_share_what_is_in_flight() -> None:
    camera = limited(tickets=1)
    camera.in_flight = 1
    assert camera.ticket() is not None
    camera.limits = replace(camera.limits, tickets=2)
    assert camera.ticket() is None
