"""A request writes to the regions that it named when it came, whatever their names mean when it is answered.

And however it ends, it lets go of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.limits import Limits
from headrace.server.services.oip.shared_memory import Regions
from tests.server.services.oip.calls import DOUBLED, ROW, Aborted, Call, Front, message, until
from tests.server.services.oip.conftest import Make, descriptors

SIZE = 64
BLANK = bytes(SIZE)
TO_OUT = ("y", "out", 0, ROW)


@pytest.fixture
async def front(regions: Regions) -> AsyncIterator[Front]:
    """All that was held is let go of at the end of each test."""
    before = descriptors()
    front = Front(regions)
    yield front
    front.dispatcher.close()
    regions.unregister("")
    assert descriptors() == before


class Owners:
    """The object that region `out` is of, and the object of another client that takes the name when it is free."""

    def __init__(self, regions: Regions, make: Make) -> None:
        self._regions = regions
        self.first, self.second = make(BLANK), make(BLANK)
        regions.register("out", self.first.name, 0, SIZE)

    def change(self) -> None:
        self._regions.unregister("out")
        self._regions.register("out", self.second.name, 0, SIZE)

    @property
    def contents(self) -> tuple[bytes, bytes]:
        """What is in the first bytes of both."""
        return self.first.read_bytes()[:ROW], self.second.read_bytes()[:ROW]


@pytest.fixture
def owners(regions: Regions, make: Make) -> Owners:
    return Owners(regions, make)


class TestOneRequest:
    async def test_an_answer_goes_to_the_region_that_the_request_named(self, front: Front, owners: Owners) -> None:
        before = descriptors()
        answer = front.infer(message(TO_OUT), Call())
        await front.runs()
        owners.change()
        assert descriptors() == before + 1
        front.finish()
        (output,) = pb.ModelInferResponse.FromString(await answer).outputs
        assert output.parameters["shared_memory_region"].string_param == "out"
        assert owners.contents == (DOUBLED, bytes(ROW))
        assert descriptors() == before

    async def test_the_next_answer_goes_to_the_region_that_has_the_name_now(self, front: Front, owners: Owners) -> None:
        """Its description is known by then, and says nothing of regions."""
        request = message(TO_OUT)
        first = front.infer(request, Call())
        await front.runs()
        owners.change()
        second = front.infer(request, Call())
        front.finish()
        await first
        assert owners.contents == (DOUBLED, bytes(ROW))
        await front.runs()
        front.finish()
        await second
        assert owners.contents == (DOUBLED, DOUBLED)

    async def test_two_outputs_may_go_to_one_region(self, front: Front, owners: Owners) -> None:
        answer = front.infer(message(TO_OUT, ("z", "out", ROW, ROW)), Call())
        await front.runs()
        owners.change()
        front.finish()
        await answer
        assert owners.first.read_bytes()[:ROW] == DOUBLED
        assert owners.first.read_bytes()[ROW : 2 * ROW] != bytes(ROW)
        assert owners.second.read_bytes() == BLANK

    @pytest.mark.parametrize("how", ["fails", "is late", "is cancelled", "is too large", "is stopped", "is shortened"])
    async def test_a_request_without_an_answer_lets_go_of_its_region(
        self, front: Front, owners: Owners, how: str
    ) -> None:
        before = descriptors()
        place = ("y", "out", 0, ROW - 4 if how == "is too large" else ROW)
        answer = front.infer(message(place), Call(seconds=0.02 if how == "is late" else None))
        await front.runs()
        owners.change()
        match how:
            case "fails":
                front.engine.fail(front.engine.running[0], RuntimeError("it failed"))
            case "is cancelled":
                answer.cancel()
            case "is too large":
                front.finish()
            case "is shortened":
                owners.first.write_bytes(b"")
                front.finish()
            case "is stopped":
                front.core.drain(front.dispatcher.now() - Limits().grace)
                front.dispatcher.act()
        status = {
            "fails": "INTERNAL",
            "is late": "DEADLINE_EXCEEDED",
            "is too large": "INVALID_ARGUMENT",
            "is shortened": "FAILED_PRECONDITION",
            "is stopped": "UNAVAILABLE",
        }
        with pytest.raises((Aborted, asyncio.CancelledError)) as caught:
            await answer
        assert how not in status or caught.value.args[0] == status[how]
        assert descriptors() == before
        assert owners.contents[0].strip(b"\0") == b""
        assert owners.second.read_bytes() == BLANK

    @pytest.mark.parametrize(
        ("request_to", "status"),
        [
            pytest.param(message(TO_OUT, model="none"), "NOT_FOUND", id="no such model"),
            pytest.param(message(TO_OUT, ("z", "none", 0, ROW)), "NOT_FOUND", id="no such region beside it"),
            pytest.param(message(TO_OUT, ("z", "out", SIZE, 1)), "INVALID_ARGUMENT", id="a place outside beside it"),
            pytest.param(message(TO_OUT, ("x", "out", 0, ROW)), "NOT_FOUND", id="no such output beside it"),
            pytest.param(message(TO_OUT, timeout=-1), "INVALID_ARGUMENT", id="a wrong parameter"),
        ],
    )
    async def test_a_refused_request_lets_go_of_its_region(
        self, front: Front, owners: Owners, regions: Regions, request_to: bytes, status: str
    ) -> None:
        with pytest.raises(Aborted) as caught:
            await front.infer(request_to, Call())
        assert caught.value.args[0] == status
        regions.unregister("out")
        assert descriptors() == 0
        assert not front.engine.started

    async def test_a_request_at_which_the_server_fails_lets_go_of_its_region(
        self, front: Front, owners: Owners, regions: Regions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(front.core, "infer", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            await front.infer(message(TO_OUT), Call())
        regions.unregister("out")
        assert descriptors() == 0


class TestAStream:
    async def test_each_answer_of_a_stream_goes_to_the_region_that_its_request_named(
        self, front: Front, owners: Owners
    ) -> None:
        """One runs, one is queued, and one comes after the name has changed hands."""
        before = descriptors()
        call = Call()
        stream = front.stream(call)
        call.send(message(TO_OUT), message(("y", "out", ROW, ROW)))
        await front.has_in_flight(2)
        owners.change()
        call.send(message(("y", "out", 2 * ROW, ROW)))
        await front.has_in_flight(3)
        assert descriptors() == before + 1
        for count in (1, 2):
            front.finish()
            await call.has_been_sent(count)
        assert descriptors() == before
        front.finish()
        call.half_close()
        await stream
        assert call.errors == ["", "", ""]
        assert owners.first.read_bytes() == DOUBLED * 2 + bytes(SIZE - 2 * ROW)
        assert owners.second.read_bytes() == bytes(2 * ROW) + DOUBLED + bytes(SIZE - 3 * ROW)

    async def test_requests_of_a_stream_without_answers_let_go_of_their_regions(
        self, front: Front, owners: Owners
    ) -> None:
        before = descriptors()
        call = Call()
        stream = front.stream(call)
        call.send(message(TO_OUT), message(TO_OUT, model="none"), message(TO_OUT, timeout=1), message(TO_OUT))
        await front.has_in_flight(4)
        owners.change()
        front.engine.fail(front.engine.running[0], RuntimeError("it failed"))
        await call.has_been_sent(3)
        assert all(call.errors)
        assert descriptors() == before + 1
        front.finish()
        await call.has_been_sent(4)
        assert descriptors() == before
        assert owners.contents == (DOUBLED, bytes(ROW))
        call.half_close()
        await stream

    @pytest.mark.parametrize("how", ["vanishes", "takes nothing", "takes nothing and half-closes"])
    async def test_a_stream_whose_client_vanishes_lets_go_of_all_regions(
        self, front: Front, owners: Owners, how: str
    ) -> None:
        """Of what runs, what is queued, what waits for its turn, and what is being written."""
        before = descriptors()
        call = Call()
        stream = front.stream(call)
        call.send(message(TO_OUT), message(TO_OUT), message(TO_OUT, model="none"), message(TO_OUT))
        await front.has_in_flight(4)
        owners.change()
        if how != "vanishes":
            call.stuck = True
            front.finish()
            await until(lambda: owners.contents[0] == DOUBLED)
        if how == "takes nothing and half-closes":
            call.half_close()
            await asyncio.sleep(0)
        assert descriptors() == before + 1
        stream.cancel()
        await asyncio.wait([stream])
        assert stream.cancelled()
        assert descriptors() == before
        assert owners.second.read_bytes() == BLANK
        await until(lambda: not front.core.streams)

    async def test_a_stream_that_ends_with_an_error_lets_go_of_all_regions(self, front: Front, owners: Owners) -> None:
        before = descriptors()
        call = Call(metadata=(("triton_grpc_error", "true"),))
        stream = front.stream(call)
        call.send(message(TO_OUT), message(("z", "out", ROW, 4)), message(TO_OUT), message(TO_OUT))
        await front.has_in_flight(4)
        owners.change()
        front.finish()
        await call.has_been_sent(1)
        await front.runs()
        front.finish()
        with pytest.raises(Aborted, match="INVALID_ARGUMENT"):
            await stream
        assert descriptors() == before
        assert owners.first.read_bytes() == DOUBLED + bytes(SIZE - ROW)

    async def test_a_stream_that_is_stopped_lets_go_of_all_regions(self, front: Front, owners: Owners) -> None:
        before = descriptors()
        call = Call()
        stream = front.stream(call)
        call.send(message(TO_OUT), message(TO_OUT))
        await front.has_in_flight(2)
        owners.change()
        front.core.drain(front.dispatcher.now() - Limits().grace)
        front.dispatcher.act()
        await call.has_been_sent(2)
        assert call.errors == ["the server has stopped"] * 2
        assert descriptors() == before
        call.half_close()
        stream.cancel()
        await asyncio.wait([stream])
        assert owners.contents == (bytes(ROW), bytes(ROW))
