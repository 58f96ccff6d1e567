"""Regions of real shared memory objects, and clients that do with them what they like."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import uuid
from typing import Any

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.shared_memory import MAX_NAME, MAX_REGIONS, Regions, SharedMemoryRpcs
from headrace.wire.errors import FailedPrecondition, HeadraceError, InvalidArgument, NotFound, ResourceExhausted
from tests.server.services.oip.conftest import SHM, Make, descriptors

HUGE = 2**64 - 1
CONTENT = bytes(range(64))


def exactly(error: type[HeadraceError], message: str) -> Any:
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def write(regions: Regions, name: str, offset: int, data: bytes | memoryview) -> None:
    region = regions.hold(name, 0, 0)
    try:
        region.write(offset, data)
    finally:
        regions.let_go(region)


class TestReadingAndWriting:
    def test_a_region_is_a_part_of_an_object(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("r", path.name, 16, 32)
        assert regions.read("r", 0, 32) == CONTENT[16:48]
        assert regions.read("r", 30, 2) == CONTENT[46:48]
        assert regions.read("r", 32, 0) == b""
        write(regions, "r", 4, memoryview(b"abc"))
        write(regions, "r", 32, b"")
        assert path.read_bytes() == CONTENT[:20] + b"abc" + CONTENT[23:]

    def test_what_the_client_writes_is_read(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("r", f"/{path.name}", 0, 64)
        with path.open("r+b") as file:
            file.write(b"new")
        assert regions.read("r", 0, 4) == b"new\x03"

    def test_two_regions_may_share_one_object(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("low", path.name, 0, 40)
        regions.register("high", path.name, 24, 40)
        write(regions, "low", 24, b"shared")
        assert regions.read("high", 0, 6) == b"shared"
        regions.unregister("low")
        assert regions.read("high", 0, 6) == b"shared"

    @pytest.mark.parametrize(
        ("offset", "size"), [(0, 33), (33, 0), (32, 1), (HUGE, 1), (1, HUGE), (HUGE, HUGE), (-1, 1), (1, -1)]
    )
    def test_nothing_outside_a_region_is_read(self, regions: Regions, make: Make, offset: int, size: int) -> None:
        regions.register("r", make(CONTENT).name, 16, 32)
        message = f"{size} bytes at offset {offset} do not lie inside shared memory region 'r' of 32 bytes"
        for access in (regions.read, regions.hold):
            with exactly(InvalidArgument, message):
                access("r", offset, size)

    def test_nothing_outside_a_region_is_written(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("r", path.name, 16, 32)
        for offset in (30, HUGE):
            message = f"3 bytes at offset {offset} do not lie inside shared memory region 'r' of 32 bytes"
            with exactly(InvalidArgument, message):
                write(regions, "r", offset, b"abc")
        assert path.read_bytes() == CONTENT

    def test_a_region_that_is_not_registered_is_refused(self, regions: Regions) -> None:
        message = "there is no shared memory region 'r'"
        with exactly(NotFound, message):
            regions.read("r", 0, 0)
        with exactly(NotFound, message):
            regions.hold("r", 0, 0)
        with exactly(NotFound, message):
            regions.status("r")


class TestClientsThatChangeTheObject:
    SHORTENED = "the object of shared memory region 'r' is shorter than when registered"

    def test_an_object_that_became_shorter_is_neither_read_nor_made_longer(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("r", path.name, 0, 64)
        os.truncate(path, 8)
        assert regions.read("r", 0, 8) == CONTENT[:8]
        with exactly(FailedPrecondition, self.SHORTENED):
            regions.read("r", 0, 9)
        with exactly(FailedPrecondition, self.SHORTENED):
            write(regions, "r", 6, b"abc")
        assert path.read_bytes() == CONTENT[:8]

    def test_an_object_may_be_shortened_while_it_is_read(
        self, regions: Regions, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make(CONTENT)
        regions.register("r", path.name, 0, 64)

        def shortening(descriptor: int, size: int, at: int, pread: Any = os.pread) -> Any:
            data = pread(descriptor, min(size, 10), at)
            os.truncate(path, 20)
            return data

        monkeypatch.setattr(os, "pread", shortening)
        with exactly(FailedPrecondition, self.SHORTENED):
            regions.read("r", 0, 64)
        assert regions.read("r", 0, 20) == CONTENT[:20]

    def test_an_object_outlives_its_key(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("r", path.name, 0, 64)
        path.unlink()
        write(regions, "r", 0, b"still there")
        assert regions.read("r", 0, 13) == b"still there\x0b\x0c"

    def test_a_lease_does_not_hold_up_the_server(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        with path.open("r+b") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            with exactly(InvalidArgument, f"'{path.name}' is no shared memory object"):
                regions.register("r", path.name, 0, 64)
        signal.signal(signal.SIGIO, before)
        regions.register("r", path.name, 0, 64)


class TestRegistering:
    @pytest.mark.parametrize(
        "key", ["", "/", "//x", "a/b", "/a/b", "../x", ".", "..", "/.", "/..", "x/", "x\0", "y" * 256, "é" * 128]
    )
    def test_a_key_is_one_name(self, regions: Regions, key: str) -> None:
        with pytest.raises(InvalidArgument, match=r"is no key of shared memory: one name, behind a slash or not$"):
            regions.register("r", key, 0, 1)

    def test_an_object_that_is_not_there_is_refused(self, regions: Regions) -> None:
        key = f"headrace-test-{uuid.uuid4().hex}"
        with exactly(NotFound, f"there is no shared memory object '{key}'"):
            regions.register("r", key, 0, 1)
        with pytest.raises(NotFound):
            regions.register("r", "é" * 127, 0, 1)

    def test_what_is_not_a_regular_file_is_refused(self, regions: Regions, make: Make) -> None:
        target = make(CONTENT)
        link, directory, pipe = (SHM / f"{target.name}-{kind}" for kind in ("link", "directory", "pipe"))
        link.symlink_to(target)
        directory.mkdir()
        os.mkfifo(pipe)
        try:
            for path in (link, directory, pipe):
                with exactly(InvalidArgument, f"'{path.name}' is no shared memory object"):
                    regions.register("r", path.name, 0, 1)
        finally:
            link.unlink()
            directory.rmdir()
            pipe.unlink()
        assert len(regions) == 0

    @pytest.mark.parametrize(
        ("offset", "byte_size"), [(0, 65), (64, 1), (60, 5), (0, HUGE), (HUGE, 1), (HUGE, HUGE), (2**63, 2**63)]
    )
    def test_a_region_lies_inside_its_object(self, regions: Regions, make: Make, offset: int, byte_size: int) -> None:
        key = make(CONTENT).name
        wanted = f"{byte_size} bytes at offset {offset} are not there for region 'r'"
        with exactly(InvalidArgument, f"shared memory object '{key}' has 64 bytes: {wanted}"):
            regions.register("r", key, offset, byte_size)
        assert len(regions) == 0

    @pytest.mark.parametrize(("offset", "byte_size"), [(0, 0), (8, -8), (-8, 8)])
    def test_a_region_is_not_empty(self, regions: Regions, make: Make, offset: int, byte_size: int) -> None:
        wanted = "it takes an offset from 0 on and at least one byte"
        with exactly(InvalidArgument, f"shared memory region 'r' has {byte_size} bytes at offset {offset}; {wanted}"):
            regions.register("r", make(CONTENT).name, offset, byte_size)

    def test_a_region_is_registered_once(self, regions: Regions, make: Make) -> None:
        regions.register("r", make(CONTENT).name, 0, 64)
        with exactly(FailedPrecondition, "shared memory region 'r' is registered already; unregister it first"):
            regions.register("r", make(b"other").name, 0, 5)
        assert regions.read("r", 0, 64) == CONTENT
        regions.unregister("r")
        regions.register("r", make(b"other").name, 0, 5)
        assert regions.read("r", 0, 5) == b"other"

    @pytest.mark.parametrize("name", ["", "n" * (MAX_NAME + 1)])
    def test_the_name_of_a_region_is_not_long(self, regions: Regions, make: Make, name: str) -> None:
        message = f"a shared memory region is named by 1 to {MAX_NAME} characters, not {len(name)}"
        with exactly(InvalidArgument, message):
            regions.register(name, make(CONTENT).name, 0, 64)

    @pytest.mark.parametrize(("descriptors_allowed", "most"), [(400, 200), (4096, MAX_REGIONS)])
    def test_the_number_of_regions_is_bounded(self, make: Make, descriptors_allowed: int, most: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= hard < descriptors_allowed:
            pytest.skip(f"the system allows {hard} descriptors")
        key = make(CONTENT).name
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_allowed, hard))
        regions = Regions()
        try:
            for number in range(most):
                regions.register(str(number), key, 0, 64)
            refusal = f"{most} shared memory regions are registered or in use; no more are taken"
            with exactly(ResourceExhausted, refusal):
                regions.register("more", key, 0, 64)
            held = regions.hold("7", 0, 64)
            regions.unregister("7")
            assert len(regions) == most - 1
            with exactly(ResourceExhausted, refusal):
                regions.register("more", key, 0, 64)
            regions.let_go(held)
            regions.register("more", key, 0, 64)
            assert len(regions) == most
        finally:
            regions.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_unregistering_closes_the_object(self, regions: Regions, make: Make) -> None:
        before = descriptors()
        for name in "abc":
            regions.register(name, make(CONTENT).name, 0, 64)
        assert descriptors() == before + 3
        regions.unregister("b")
        regions.unregister("not there")
        assert descriptors() == before + 2
        assert [region.name for region in regions.status("")] == ["a", "c"]
        assert repr(regions) == "<Regions 2, 128 bytes, 2 descriptors>"
        regions.unregister("")
        assert (descriptors(), list(regions.status(""))) == (before, [])


class TestHolding:
    def test_a_held_region_outlives_its_name(self, regions: Regions, make: Make) -> None:
        first, second = make(CONTENT), make(CONTENT)
        regions.register("r", first.name, 16, 32)
        held = regions.hold("r", 0, 8)
        regions.unregister("r")
        with exactly(NotFound, "there is no shared memory region 'r'"):
            regions.hold("r", 0, 8)
        regions.register("r", second.name, 0, 64)
        held.write(1, b"first")
        assert first.read_bytes() == CONTENT[:17] + b"first" + CONTENT[22:]
        assert second.read_bytes() == CONTENT
        assert [(region.key, region.byte_size) for region in regions.status("")] == [(second.name, 64)]
        assert repr(regions) == "<Regions 1, 64 bytes, 2 descriptors>"
        regions.let_go(held)
        assert repr(regions) == "<Regions 1, 64 bytes, 1 descriptors>"

    def test_the_last_holder_closes_a_region(self, regions: Regions, make: Make) -> None:
        before = descriptors()
        regions.register("r", make(CONTENT).name, 0, 64)
        held = [regions.hold("r", 0, 64) for _ in range(3)]
        assert descriptors() == before + 1
        regions.let_go(held.pop())
        regions.unregister("")
        regions.let_go(held.pop())
        assert descriptors() == before + 1
        regions.let_go(held.pop())
        assert descriptors() == before

    def test_a_registered_region_stays_open(self, regions: Regions, make: Make) -> None:
        regions.register("r", make(CONTENT).name, 0, 64)
        regions.let_go(regions.hold("r", 0, 64))
        assert regions.read("r", 0, 64) == CONTENT

    def test_a_region_that_cannot_be_held_is_refused(self, regions: Regions, make: Make) -> None:
        before = descriptors()
        regions.register("r", make(CONTENT).name, 0, 64)
        with pytest.raises(InvalidArgument):
            regions.hold("r", 60, 5)
        regions.unregister("r")
        assert descriptors() == before

    def test_the_object_may_be_shortened_while_it_is_held(self, regions: Regions, make: Make) -> None:
        path = make(CONTENT)
        regions.register("r", path.name, 0, 64)
        held = regions.hold("r", 0, 64)
        os.truncate(path, 8)
        with exactly(FailedPrecondition, TestClientsThatChangeTheObject.SHORTENED):
            held.write(4, b"12345")
        assert path.read_bytes() == CONTENT[:8]
        regions.let_go(held)


class TestCalls:
    async def test_a_region_is_registered_shown_and_unregistered(self, regions: Regions, make: Make) -> None:
        rpcs = SharedMemoryRpcs(regions)
        key = f"/{make(CONTENT).name}"
        for name in "ab":
            request = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=8, byte_size=16)
            assert await rpcs.register(request) == pb.SystemSharedMemoryRegisterResponse()
        a, b = (
            pb.SystemSharedMemoryStatusResponse.RegionStatus(name=name, key=key, offset=8, byte_size=16)
            for name in "ab"
        )
        request_all = pb.SystemSharedMemoryStatusRequest()
        response = await rpcs.status(request_all)
        assert response == pb.SystemSharedMemoryStatusResponse(regions={"a": a, "b": b})
        response = await rpcs.status(pb.SystemSharedMemoryStatusRequest(name="b"))
        assert response == pb.SystemSharedMemoryStatusResponse(regions={"b": b})
        await rpcs.unregister(pb.SystemSharedMemoryUnregisterRequest(name="a"))
        assert set((await rpcs.status(request_all)).regions) == {"b"}
        await rpcs.unregister(pb.SystemSharedMemoryUnregisterRequest())
        assert not (await rpcs.status(request_all)).regions

    async def test_a_server_without_shared_memory_has_no_regions(self) -> None:
        rpcs = SharedMemoryRpcs(None)
        assert not (await rpcs.status(pb.SystemSharedMemoryStatusRequest())).regions
