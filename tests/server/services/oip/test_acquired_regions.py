"""A request writes to the regions that its names meant when it arrived, even if they mean others when it is answered.

However it ends, it releases them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.limits import Limits
from headrace.server.services.oip.region_registry import OwnedRegions, RegionRegistry
from tests.interpreted import interpreted
from tests.server.services.oip.calls import DOUBLED, ROW_BYTES, InMemoryCall, request, until
from tests.server.services.oip.infer_service import Aborted, InferService
from tests.server.services.oip.shared_memory_objects import MakeObject, open_descriptors

REGION_BYTES = 64
BLANK = bytes(REGION_BYTES)
Y_TO_OUT = ("y", "out", 0, ROW_BYTES)


@pytest.fixture
async def service(owned: OwnedRegions, regions: RegionRegistry) -> AsyncIterator[InferService]:
    """A service whose requests have released all regions at the end of the test."""
    before = open_descriptors()
    service = InferService(owned)
    yield service
    service.dispatcher.close()
    regions.unregister("")
    assert open_descriptors() == before


class TwoOwners:
    """The object of region `out`, and the object of another client that registers this name once it is free."""

    def __init__(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        self._regions = regions
        self.first, self.second = make_object(BLANK), make_object(BLANK)
        regions.register("out", self.first.name, 0, REGION_BYTES)

    def change(self) -> None:
        self._regions.unregister("out")
        self._regions.register("out", self.second.name, 0, REGION_BYTES)

    @property
    def contents(self) -> tuple[bytes, bytes]:
        """The first bytes of both objects."""
        return self.first.read_bytes()[:ROW_BYTES], self.second.read_bytes()[:ROW_BYTES]


@pytest.fixture
def owners(regions: RegionRegistry, make_object: MakeObject) -> TwoOwners:
    return TwoOwners(regions, make_object)


class TestUnaryRequests:
    async def test_a_request_writes_to_the_region_that_it_named(self, service: InferService, owners: TwoOwners) -> None:
        before = open_descriptors()
        response = service.infer(request(Y_TO_OUT), InMemoryCall())
        await service.wait_running()
        owners.change()
        assert open_descriptors() == before + 1
        service.finish()
        (output,) = pb.ModelInferResponse.FromString(await response).outputs
        assert output.parameters["shared_memory_region"].string_param == "out"
        assert owners.contents == (DOUBLED, bytes(ROW_BYTES))
        assert open_descriptors() == before

    async def test_the_next_request_writes_to_the_region_that_has_the_name_now(
        self, service: InferService, owners: TwoOwners
    ) -> None:
        """Its description is cached, and does not refer to regions."""
        message = request(Y_TO_OUT)
        first = service.infer(message, InMemoryCall())
        await service.wait_running()
        owners.change()
        second = service.infer(message, InMemoryCall())
        service.finish()
        await first
        assert owners.contents == (DOUBLED, bytes(ROW_BYTES))
        await service.wait_running()
        service.finish()
        await second
        assert owners.contents == (DOUBLED, DOUBLED)

    async def test_two_outputs_can_go_to_one_region(self, service: InferService, owners: TwoOwners) -> None:
        response = service.infer(request(Y_TO_OUT, ("z", "out", ROW_BYTES, ROW_BYTES)), InMemoryCall())
        await service.wait_running()
        owners.change()
        service.finish()
        await response
        assert owners.first.read_bytes()[:ROW_BYTES] == DOUBLED
        assert owners.first.read_bytes()[ROW_BYTES : 2 * ROW_BYTES] != bytes(ROW_BYTES)
        assert owners.second.read_bytes() == BLANK

    @pytest.mark.parametrize("how", ["fails", "is late", "is cancelled", "is too large", "is stopped", "is shortened"])
    async def test_a_request_without_a_response_releases_its_region(
        self, service: InferService, owners: TwoOwners, how: str
    ) -> None:
        before = open_descriptors()
        place = ("y", "out", 0, ROW_BYTES - 4 if how == "is too large" else ROW_BYTES)
        response = service.infer(request(place), InMemoryCall(seconds=0.02 if how == "is late" else None))
        await service.wait_running()
        owners.change()
        match how:
            case "fails":
                service.engine.fail(service.engine.running[0], RuntimeError("it failed"))
            case "is cancelled":
                response.cancel()
            case "is too large":
                service.finish()
            case "is shortened":
                owners.first.write_bytes(b"")
                service.finish()
            case "is stopped":
                service.core.drain(service.dispatcher.now() - Limits().grace)
                service.dispatcher.act()
        status = {
            "fails": "INTERNAL",
            "is late": "DEADLINE_EXCEEDED",
            "is too large": "INVALID_ARGUMENT",
            "is shortened": "FAILED_PRECONDITION",
            "is stopped": "UNAVAILABLE",
        }
        with pytest.raises((Aborted, asyncio.CancelledError)) as caught:
            await response
        assert how not in status or caught.value.args[0] == status[how]
        assert open_descriptors() == before
        assert owners.contents[0].strip(b"\0") == b""
        assert owners.second.read_bytes() == BLANK

    @pytest.mark.parametrize(
        ("message", "status"),
        [
            pytest.param(request(Y_TO_OUT, model="none"), "NOT_FOUND", id="no such model"),
            pytest.param(request(Y_TO_OUT, ("z", "none", 0, ROW_BYTES)), "NOT_FOUND", id="no such region beside it"),
            pytest.param(
                request(Y_TO_OUT, ("z", "out", REGION_BYTES, 1)),
                "INVALID_ARGUMENT",
                id="a range outside its region beside it",
            ),
            pytest.param(request(Y_TO_OUT, ("x", "out", 0, ROW_BYTES)), "NOT_FOUND", id="no such output beside it"),
            pytest.param(request(Y_TO_OUT, timeout=-1), "INVALID_ARGUMENT", id="an invalid parameter"),
        ],
    )
    async def test_a_refused_request_releases_its_region(
        self, service: InferService, owners: TwoOwners, regions: RegionRegistry, message: bytes, status: str
    ) -> None:
        with pytest.raises(Aborted) as caught:
            await service.infer(message, InMemoryCall())
        assert caught.value.args[0] == status
        regions.unregister("out")
        assert open_descriptors() == 0
        assert not service.engine.started

    @interpreted
    async def test_an_unexpected_error_releases_the_region(
        self, service: InferService, owners: TwoOwners, regions: RegionRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(service.core, "infer", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            await service.infer(request(Y_TO_OUT), InMemoryCall())
        regions.unregister("out")
        assert open_descriptors() == 0


class TestStreams:
    async def test_each_request_writes_to_the_region_that_it_named(
        self, service: InferService, owners: TwoOwners
    ) -> None:
        """One runs, one is queued, and one arrives after the name has changed its owner."""
        before = open_descriptors()
        call = InMemoryCall()
        stream = service.stream(call)
        call.send(request(Y_TO_OUT), request(("y", "out", ROW_BYTES, ROW_BYTES)))
        await service.wait_in_flight(2)
        owners.change()
        call.send(request(("y", "out", 2 * ROW_BYTES, ROW_BYTES)))
        await service.wait_in_flight(3)
        assert open_descriptors() == before + 1
        for count in (1, 2):
            service.finish()
            await call.wait_written(count)
        assert open_descriptors() == before
        service.finish()
        call.half_close()
        await stream
        assert call.errors == ["", "", ""]
        assert owners.first.read_bytes() == DOUBLED * 2 + bytes(REGION_BYTES - 2 * ROW_BYTES)
        assert owners.second.read_bytes() == bytes(2 * ROW_BYTES) + DOUBLED + bytes(REGION_BYTES - 3 * ROW_BYTES)

    async def test_requests_without_results_release_their_regions(
        self, service: InferService, owners: TwoOwners
    ) -> None:
        before = open_descriptors()
        call = InMemoryCall()
        stream = service.stream(call)
        call.send(request(Y_TO_OUT), request(Y_TO_OUT, model="none"), request(Y_TO_OUT, timeout=1), request(Y_TO_OUT))
        await service.wait_in_flight(4)
        owners.change()
        service.engine.fail(service.engine.running[0], RuntimeError("it failed"))
        await call.wait_written(3)
        assert all(call.errors)
        assert open_descriptors() == before + 1
        service.finish()
        await call.wait_written(4)
        assert open_descriptors() == before
        assert owners.contents == (DOUBLED, bytes(ROW_BYTES))
        call.half_close()
        await stream

    @pytest.mark.parametrize("how", ["vanishes", "reads nothing", "reads nothing and half-closes"])
    async def test_a_client_that_goes_away_releases_all_regions(
        self, service: InferService, owners: TwoOwners, how: str
    ) -> None:
        """Requests run, are queued, wait for their turn, and are being written."""
        before = open_descriptors()
        call = InMemoryCall()
        stream = service.stream(call)
        call.send(request(Y_TO_OUT), request(Y_TO_OUT), request(Y_TO_OUT, model="none"), request(Y_TO_OUT))
        await service.wait_in_flight(4)
        owners.change()
        if how != "vanishes":
            call.stuck = True
            service.finish()
            await until(lambda: owners.contents[0] == DOUBLED)
        if how == "reads nothing and half-closes":
            call.half_close()
            await asyncio.sleep(0)
        assert open_descriptors() == before + 1
        stream.cancel()
        await asyncio.wait([stream])
        assert stream.cancelled()
        assert open_descriptors() == before
        assert owners.second.read_bytes() == BLANK
        await until(lambda: not service.core.streams)

    async def test_a_stream_that_ends_at_an_error_releases_all_regions(
        self, service: InferService, owners: TwoOwners
    ) -> None:
        before = open_descriptors()
        call = InMemoryCall(metadata=(("triton_grpc_error", "true"),))
        stream = service.stream(call)
        call.send(request(Y_TO_OUT), request(("z", "out", ROW_BYTES, 4)), request(Y_TO_OUT), request(Y_TO_OUT))
        await service.wait_in_flight(4)
        owners.change()
        service.finish()
        await call.wait_written(1)
        await service.wait_running()
        service.finish()
        with pytest.raises(Aborted, match="INVALID_ARGUMENT"):
            await stream
        assert open_descriptors() == before
        assert owners.first.read_bytes() == DOUBLED + bytes(REGION_BYTES - ROW_BYTES)

    async def test_a_stream_that_the_server_stops_releases_all_regions(
        self, service: InferService, owners: TwoOwners
    ) -> None:
        before = open_descriptors()
        call = InMemoryCall()
        stream = service.stream(call)
        call.send(request(Y_TO_OUT), request(Y_TO_OUT))
        await service.wait_in_flight(2)
        owners.change()
        service.core.drain(service.dispatcher.now() - Limits().grace)
        service.dispatcher.act()
        await call.wait_written(2)
        assert call.errors == ["the server has stopped"] * 2
        assert open_descriptors() == before
        call.half_close()
        stream.cancel()
        await asyncio.wait([stream])
        assert owners.contents == (bytes(ROW_BYTES), bytes(ROW_BYTES))
