"""What the core counts for metrics, in exact numbers: seconds here are sums of powers of two."""

from __future__ import annotations

from headrace.server.core.counts import MAX_KNOWN_CONNECTIONS, Connections, Histogram, ModelCounts
from headrace.server.core.limits import Limits
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, step
from tests.server.core.scenario import Client, Scenario, infer_many


def of(world: Scenario, name: str = "step") -> ModelCounts:
    return world.core.models.find(name).counts


def values(histogram: Histogram) -> tuple[dict[float, int], float]:
    """How many values there are up to each bound (and above the one before), where there are any; and their sum."""
    bounds = (*histogram.bounds, float("inf"))
    return {bound: count for bound, count in zip(bounds, histogram.counts, strict=True) if count}, histogram.sum


def rejected(world: Scenario) -> dict[str, int]:
    return {reason: count for reason, count in world.core.counts.rejected.items() if count}


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value, times in ((0.5, 1), (1.0, 2), (1.5, 4), (2.0, 8), (2.5, 16)):
        histogram.add(value, times)
    assert (histogram.counts, histogram.sum, histogram.count) == ([3, 12, 16], 0.5 + 2 + 6 + 16 + 40, 31)


def test_the_phases_of_a_request() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, "add", a="1.y")
    world.starts()
    world.now += 4
    world.end(1)
    assert world.after(2) == [2]
    world.now += 0.5
    world.end(2)
    world.now += 0.125
    assert client.receives() == ["done 1", "done 2"]
    first, second = of(world), of(world, "add")
    assert (first.done, first.handed_off, first.ends) == (1, 1, {})
    assert values(first.queued) == ({5e-5: 1}, 0)
    assert values(first.waiting) == ({}, 0)
    assert values(first.running) == ({5: 1}, 4)
    assert values(first.sending) == ({5: 1}, 2 + 0.5 + 0.125)
    assert values(first.duration) == ({10: 1}, 4 + 2 + 0.5 + 0.125)
    assert values(second.waiting) == ({5: 1}, 4)
    assert values(second.queued) == ({2.5: 1}, 2)
    assert values(second.running) == ({0.5: 1}, 0.5)
    assert values(second.sending) == ({0.25: 1}, 0.125)
    assert (second.runs[1], sum(second.runs), second.direct_runs) == (1, 1, 0)


def test_the_requests_of_a_batch_count_each_with_its_own_times() -> None:
    world = Scenario(many())
    client, other = world.client(), world.client()
    infer_many(client, 1, 2)
    world.now += 1
    infer_many(other, 3)
    assert world.after(1) == [1, 3, 2]
    world.now += 4
    world.end(1)
    counts = of(world, "many")
    assert (counts.done, counts.runs[3], sum(counts.runs)) == (3, 1, 1)
    assert values(counts.queued) == ({1: 1, 2.5: 2}, 5)
    assert values(counts.running) == ({5: 3}, 12)
    assert client.receives() == ["done 1", "done 2"]
    assert counts.handed_off == 2
    assert values(counts.sending) == ({5e-5: 2}, 0)
    world.now += 2
    assert other.receives() == ["done 3"]
    assert values(counts.sending) == ({5e-5: 2, 2.5: 1}, 2)
    assert values(counts.duration) == ({10: 3}, 6 + 6 + 7)


def test_every_end_counts_once() -> None:
    world = Scenario(limits=Limits(window=4))
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    client.infer(3, timeout=1)
    client.infer(4)
    client.infer(5)
    client.infer(4)
    client.cancel(4)
    world.starts()
    world.end(1, Internal("broken"))
    world.after(2)
    assert of(world).ends == {
        ("refused", "RESOURCE_EXHAUSTED"): 1,
        ("refused", "INVALID_ARGUMENT"): 1,
        ("cancelled", "CANCELLED"): 1,
        ("failed", "INTERNAL"): 1,
        ("failed", "FAILED_PRECONDITION"): 1,
        ("expired", "DEADLINE_EXCEEDED"): 1,
    }
    assert rejected(world) == {"window": 1, "tag": 1}
    assert (of(world).done, of(world).failed, of(world).handed_off) == (0, 4, 0)
    client.receives()
    assert of(world).handed_off == 4


def test_bad_content_counts_for_the_model_that_it_names_if_that_is_served() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, outputs=["none"])
    client.infer(2, tensors=[b"short"])
    gone = world.core.models.find("grow")
    world.core.models.remove("grow", "1", "has been unloaded")
    client.infer(3, "grow")
    world.core.models.forget("grow")
    client.infer(4, "grow")
    assert of(world).ends == {("failed", "NOT_FOUND"): 1, ("failed", "INVALID_ARGUMENT"): 1}
    assert world.core.models.no_model.ends == {("failed", "UNAVAILABLE"): 1, ("failed", "NOT_FOUND"): 1}
    assert gone.counts.ends == {}
    assert of(world).failed == 0


def test_a_vanished_client_has_cancelled_everything() -> None:
    world = Scenario(step(2))
    client = world.client()
    for tag in (1, 2, 3):
        client.infer(tag)
    world.starts()
    world.end(1)
    client.vanish()
    counts = of(world)
    assert (counts.done, counts.ends, counts.handed_off) == (1, {("cancelled", "CANCELLED"): 2}, 3)
    assert values(counts.sending) == ({}, 0)


def test_a_unary_call_is_answered_when_its_stream_is_closed() -> None:
    world = Scenario()
    client = world.client(unary=True)
    client.infer(1)
    world.runs()
    assert len(client.stream.take()) == 1
    world.now += 1
    client.vanish()
    assert (of(world).done, of(world).handed_off, values(of(world).sending)) == (1, 1, ({1: 1}, 1))


def test_fetches_count() -> None:
    world = Scenario(limits=Limits(window=3))
    client = world.client()
    client.infer(1, keep=["y"])
    client.fetch(2, "1.y")
    client.fetch(3, "1.none")
    client.fetch(4, "1.y")
    world.runs()
    assert world.core.counts.fetches == {
        ("done", "OK"): 1,
        ("failed", "NOT_FOUND"): 1,
        ("refused", "RESOURCE_EXHAUSTED"): 1,
    }
    assert rejected(world) == {"window": 1}


def test_a_model_that_is_loaded_again_counts_on() -> None:
    world = Scenario(step())
    client = world.client()
    client.infer(1)
    client.infer(2)
    world.starts()
    before = of(world)
    world.core.models.add(step())
    client.infer(3)
    world.runs()
    world.end(1)
    world.runs()
    assert (of(world) is before, before.done) == (True, 3)
    world.core.models.remove("step", "1", "has been unloaded")
    world.decide()
    world.core.models.add(step())
    assert of(world) is not before


def test_a_draining_server_refuses() -> None:
    world = Scenario()
    client = world.client()
    world.core.drain(world.now)
    client.infer(1)
    assert (rejected(world), of(world).ends) == ({"draining": 1}, {("refused", "UNAVAILABLE"): 1})


def test_streams_and_their_connections_count() -> None:
    world = Scenario()
    for owner, unary, window in (("a", False, 0), ("a", True, 0), ("b", True, 8), ("b", True, 0), ("a", True, 0)):
        Client(world, owner, unary=unary, window=window)
    assert world.core.counts.streams == {"frames": 1, "requests": 1, "unary": 3}
    assert world.core.counts.connections.opened == 2


def test_a_connection_that_was_idle_for_long_counts_again() -> None:
    connections = Connections()
    for number in range(MAX_KNOWN_CONNECTIONS):
        connections.note(number)
    connections.note(0)
    connections.note("another")
    connections.note(0)
    assert connections.opened == MAX_KNOWN_CONNECTIONS + 1
    connections.note(1)
    assert connections.opened == MAX_KNOWN_CONNECTIONS + 2


def test_frames_count_with_their_events() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2)
    world.runs()
    client.receives()
    assert values(world.core.counts.frame_events) == ({1: 1, 2: 1}, 3)
