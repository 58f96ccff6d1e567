"""Frames, and events that are too large for the messages of the client."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from headrace.server.core.admission import slice_of
from headrace.server.core.events import Done, Event, Failed, Fetched
from headrace.server.core.limits import Limits
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import ResourceExhausted
from tests.server.core.model_specs import FakeTensor, model, port, step
from tests.server.core.scenario import Client, Scenario

SMALLEST = 64 << 10
KILO = 256
"""Elements of 1,024 bytes."""


def world(**limits: Any) -> Scenario:
    spec = model("give", [port(0, "x", 4)], [port(0, "s", 64 * KILO), port(1, "d", None), port(2, "k", KILO)])
    return Scenario(spec, step(), limits=replace(Limits(), **limits))


def frames(world: Scenario, client: Client) -> list[list[Event]]:
    taken: list[list[Event]] = []
    while events := world.take(client.stream):
        world.core.flushed(client.stream)
        taken.append(events)
    return taken


class TestTooLarge:
    def check(self, client: Client, tag: int, nbytes: int) -> None:
        error = client.errors[tag]
        assert isinstance(error, ResourceExhausted)
        assert not error.retryable
        assert "keep it and fetch slices" in error.message
        (size, limit) = [int(word.strip(";,")) for word in error.message.split() if word.strip(";,").isdecimal()]
        assert nbytes < size < nbytes + 1024
        assert limit == SMALLEST

    def test_static_outputs_too_large_for_a_message_fail_at_once(self) -> None:
        scene = world()
        client = scene.client(max_message=SMALLEST)
        client.infer(1, "give", outputs=["s"])
        assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED"]
        self.check(client, 1, 64 << 10)
        assert scene.starts() == []

    def test_dynamic_outputs_too_large_for_a_message_fail_when_they_are_there(self) -> None:
        scene = world()
        client = scene.client(max_message=SMALLEST)
        client.infer(1, "give", outputs=["d", "k"], keep=["s"])
        client.infer(2, "give", outputs=["d", "k"], keep=["s"])
        assert scene.starts() == [1]
        scene.end(1, d=63 * KILO)
        assert scene.starts() == [2]
        scene.end(2, d=62 * KILO)
        assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED", "done 2"]
        self.check(client, 1, 64 << 10)
        assert client.live == {2}
        assert scene.core.accounts.keep.used == 64 << 10

    def test_a_fetch_of_too_much_fails_and_a_fetch_of_slices_does_not(self) -> None:
        scene = world()
        client = scene.client(max_message=SMALLEST)
        client.infer(1, "give", keep=["s", "d"])
        client.fetch(2, "1.s")
        assert scene.starts() == [1]
        scene.end(1, d=100 * KILO)
        client.fetch(3, "1.d")
        client.fetch(4, "1.s", (0, 62 * KILO))
        client.fetch(5, "1.s", (62 * KILO, 64 * KILO))
        assert client.receives() == [
            "done 1",
            "failed 2 RESOURCE_EXHAUSTED",
            "failed 3 RESOURCE_EXHAUSTED",
            "fetched 4",
            "fetched 5",
        ]
        self.check(client, 2, 64 << 10)
        self.check(client, 3, 100 << 10)
        fetched = client.events[4]
        assert isinstance(fetched, Fetched)
        assert (fetched.shape, fetched.nbytes) == ((62 * KILO,), 62 << 10)

    def test_slices_of_bytes_count_as_the_whole_tensor(self) -> None:
        """How large a slice of them is cannot be told before it is read: as large as the whole, at most."""

        class Texts(FakeTensor):
            @property
            def nbytes(self) -> int:
                return 1000

        assert slice_of(Texts(Datatype.BYTES, (4, 2)), ((1, 3),)) == ((2, 2), 1000)
        assert slice_of(FakeTensor(Datatype.INT64, (4, 2)), ((1, 3),)) == ((2, 2), 32)
        assert slice_of(FakeTensor(Datatype.INT64, (4, 2)), ()) == ((4, 2), 64)

    def test_a_client_takes_4_mib_by_default(self) -> None:
        scene = world()
        client = scene.client()
        client.infer(1, "give", outputs=["d"])
        client.infer(2, "give", outputs=["d"])
        scene.starts()
        scene.end(1, d=4095 * KILO)
        scene.starts()
        scene.end(2, d=4096 * KILO)
        assert client.receives() == ["done 1", "failed 2 RESOURCE_EXHAUSTED"]

    def test_an_open_of_zero_bytes_means_the_default(self) -> None:
        scene = world()
        client = scene.client()
        scene.core.open(client.stream, False, 0)
        assert client.stream.max_message_bytes == 4 << 20


class TestFrames:
    @pytest.mark.parametrize(("window", "items"), [(1, 16), (128, 16), (400, 50), (1024, 128), (9999, 128)])
    def test_a_frame_closes_at_an_eighth_of_the_window(self, window: int, items: int) -> None:
        scene = world(window=window)
        client = scene.client()
        for _ in range(200):
            client.infer(0)
        assert [*map(len, frames(scene, client))][:-1] == [items] * (199 // items)

    def test_a_frame_closes_at_1_mib_and_a_larger_item_travels_alone(self) -> None:
        scene = world()
        client = scene.client()
        for tag, kilo in enumerate([500, 500, 500, 2000, 1, 1], start=1):
            client.infer(tag, "give", outputs=["d"])
            scene.starts()
            scene.end(tag, d=kilo * KILO)
        assert [len(frame) for frame in frames(scene, client)] == [2, 1, 1, 2]

    def test_a_frame_closes_at_the_largest_message_of_the_client(self) -> None:
        scene = world()
        client = scene.client(max_message=SMALLEST)
        for tag in range(1, 10):
            client.infer(tag, "give", outputs=["d"])
            scene.starts()
            scene.end(tag, d=20 * KILO)
        assert [len(frame) for frame in frames(scene, client)] == [3, 3, 3]

    def test_failures_count_in_the_size_of_a_frame(self) -> None:
        """Their messages are long at times: 128 of them are more than a small message holds."""
        name = "\N{HIRAGANA LETTER A}" * 37
        spec = model("m" * 78, [port(0, "x", 4)], [port(at, f"{name}{at}", 4) for at in range(9)])
        scene = Scenario(spec)
        client = scene.client(max_message=SMALLEST)
        client.infer(1, spec.name, keep=[f"{name}0"])
        for tag in range(2, 258):
            client.fetch(tag, f"1.{name * 2}")
        taken = frames(scene, client)
        assert sum(map(len, taken)) == 256
        assert len(taken) > 2
        for events in taken:
            frame = pb.ServerFrame()
            for event in events:
                assert isinstance(event, Failed)
                message = event.error.message
                assert "and 1 more" in message
                assert len(message.encode()) > 512
                frame.events.add(
                    kind=pb.Event.FAILED, tag=event.tag, failure=pb.Failure(code=pb.NOT_FOUND, message=message)
                )
                assert event.overhead >= frame.events[-1].ByteSize() + 4
            assert frame.ByteSize() <= SMALLEST

    def test_the_estimated_size_of_an_event_is_never_too_small(self) -> None:
        """Layouts, headers and names included, as the front encodes them."""
        name = "\N{HIRAGANA LETTER A}" * 200
        rank = (2**31,) * 2 + (1,) * 6
        spec = model("long", [port(0, "x", 4)], [port(at, f"{name}{at}", *[None] * 8) for at in range(3)])
        scene = Scenario(spec, limits=Limits(keep_bytes=2**70, keep_bytes_total=2**70))
        client = scene.client()
        client.stream.max_message_bytes = 2**70
        client.infer(1, keep=[f"{name}0"], all_outputs=True, name="long", tensors=[bytes(16)])
        client.fetch(2, f"1.{name}0")
        scene.starts()
        sizes: dict[str, Any] = {f"{name}{at}": 2 for at in range(3)}
        scene.end(1, **sizes)
        done, fetched = scene.take(client.stream)
        assert isinstance(done, Done)
        assert isinstance(fetched, Fetched)
        tensor = pb.Tensor(name=f"{name}0", datatype=pb.FP32, shape=rank)
        second = 2**63
        layout = pb.Layout(sent=[tensor] * 3, kept=[tensor], version=spec.version, fingerprint=2**64 - 1)
        frame = pb.ServerFrame()
        frame.events.add(kind=pb.Event.LAYOUT, layout=1024, define=layout)
        frame.events.add(tag=1, layout=1024, waiting_us=second, queued_us=second, running_us=second)
        header = 1 + len(_varint(math.prod(rank)))
        assert frame.ByteSize() + 3 * header <= done.overhead
        frame = pb.ServerFrame()
        frame.events.add(kind=pb.Event.LAYOUT, layout=1024, define=pb.Layout(sent=[tensor]))
        frame.events.add(kind=pb.Event.FETCHED, tag=1, layout=1024)
        assert frame.ByteSize() + header <= fetched.overhead


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
