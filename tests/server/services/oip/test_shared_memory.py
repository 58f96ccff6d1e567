"""Regions of real shared memory objects, which clients may change at any time."""

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
from headrace.server.core.clients import NO_LIMITS, Client
from headrace.server.services.oip.region_registry import MAX_NAME_CHARACTERS, MAX_REGIONS, OwnedRegions, RegionRegistry
from headrace.server.services.oip.shared_memory import SharedMemoryRpcs
from headrace.wire.errors import FailedPrecondition, HeadraceError, InvalidArgument, NotFound, ResourceExhausted
from tests.server.services.oip.shared_memory_objects import DIRECTORY, MakeObject, open_descriptors

HUGE = 2**64 - 1
CONTENT = bytes(range(64))


def exactly(error: type[HeadraceError], message: str) -> Any:
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def write(regions: RegionRegistry, name: str, offset: int, data: bytes | memoryview) -> None:
    region = regions.acquire(name, 0, 0)
    try:
        region.write(offset, data)
    finally:
        regions.release(region)


class TestReadingAndWriting:
    def test_a_region_is_part_of_an_object(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        path = make_object(CONTENT)
        regions.register("r", path.name, 16, 32)
        assert regions.read("r", 0, 32) == CONTENT[16:48]
        assert regions.read("r", 30, 2) == CONTENT[46:48]
        assert regions.read("r", 32, 0) == b""
        write(regions, "r", 4, memoryview(b"abc"))
        write(regions, "r", 32, b"")
        assert path.read_bytes() == CONTENT[:20] + b"abc" + CONTENT[23:]

    def test_later_changes_of_the_object_are_read(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        path = make_object(CONTENT)
        regions.register("r", f"/{path.name}", 0, 64)
        with path.open("r+b") as file:
            file.write(b"new")
        assert regions.read("r", 0, 4) == b"new\x03"

    def test_two_regions_of_one_object_share_bytes(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        path = make_object(CONTENT)
        regions.register("low", path.name, 0, 40)
        regions.register("high", path.name, 24, 40)
        write(regions, "low", 24, b"shared")
        assert regions.read("high", 0, 6) == b"shared"
        regions.unregister("low")
        assert regions.read("high", 0, 6) == b"shared"

    @pytest.mark.parametrize(
        ("offset", "size"), [(0, 33), (33, 0), (32, 1), (HUGE, 1), (1, HUGE), (HUGE, HUGE), (-1, 1), (1, -1)]
    )
    def test_bytes_outside_a_region_cannot_be_read_or_acquired(
        self, regions: RegionRegistry, make_object: MakeObject, offset: int, size: int
    ) -> None:
        regions.register("r", make_object(CONTENT).name, 16, 32)
        message = f"{size} bytes at offset {offset} do not lie inside shared memory region 'r' of 32 bytes"
        for access in (regions.read, regions.acquire):
            with exactly(InvalidArgument, message):
                access("r", offset, size)

    def test_bytes_outside_a_region_cannot_be_written(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        path = make_object(CONTENT)
        regions.register("r", path.name, 16, 32)
        for offset in (30, HUGE):
            message = f"3 bytes at offset {offset} do not lie inside shared memory region 'r' of 32 bytes"
            with exactly(InvalidArgument, message):
                write(regions, "r", offset, b"abc")
        assert path.read_bytes() == CONTENT

    def test_an_unknown_region_is_not_found(self, regions: RegionRegistry) -> None:
        message = "there is no shared memory region 'r'"
        with exactly(NotFound, message):
            regions.read("r", 0, 0)
        with exactly(NotFound, message):
            regions.acquire("r", 0, 0)
        with exactly(NotFound, message):
            regions.status("r")


class TestClientsThatChangeTheObject:
    SHRUNK = "the object of shared memory region 'r' has shrunk since the region was registered"

    def test_an_object_that_has_shrunk_is_neither_read_past_its_end_nor_extended(
        self, regions: RegionRegistry, make_object: MakeObject
    ) -> None:
        path = make_object(CONTENT)
        regions.register("r", path.name, 0, 64)
        os.truncate(path, 8)
        assert regions.read("r", 0, 8) == CONTENT[:8]
        with exactly(FailedPrecondition, self.SHRUNK):
            regions.read("r", 0, 9)
        with exactly(FailedPrecondition, self.SHRUNK):
            write(regions, "r", 6, b"abc")
        assert path.read_bytes() == CONTENT[:8]

    def test_an_object_may_shrink_while_it_is_read(
        self, regions: RegionRegistry, make_object: MakeObject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make_object(CONTENT)
        regions.register("r", path.name, 0, 64)

        def shrinking_pread(descriptor: int, size: int, at: int, pread: Any = os.pread) -> Any:
            data = pread(descriptor, min(size, 10), at)
            os.truncate(path, 20)
            return data

        monkeypatch.setattr(os, "pread", shrinking_pread)
        with exactly(FailedPrecondition, self.SHRUNK):
            regions.read("r", 0, 64)
        assert regions.read("r", 0, 20) == CONTENT[:20]

    def test_a_region_outlives_the_key_of_its_object(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        path = make_object(CONTENT)
        regions.register("r", path.name, 0, 64)
        path.unlink()
        write(regions, "r", 0, b"still there")
        assert regions.read("r", 0, 13) == b"still there\x0b\x0c"

    def test_a_lease_does_not_hold_up_the_server(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        path = make_object(CONTENT)
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        with path.open("r+b") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            with exactly(InvalidArgument, f"'{path.name}' is not a shared memory object"):
                regions.register("r", path.name, 0, 64)
        signal.signal(signal.SIGIO, before)
        regions.register("r", path.name, 0, 64)


class TestRegistering:
    @pytest.mark.parametrize(
        "key", ["", "/", "//x", "a/b", "/a/b", "../x", ".", "..", "/.", "/..", "x/", "x\0", "y" * 256, "é" * 128]
    )
    def test_a_key_is_one_name(self, regions: RegionRegistry, key: str) -> None:
        with pytest.raises(
            InvalidArgument,
            match=r"is not a valid shared memory key: a key is one name, with or without a leading slash$",
        ):
            regions.register("r", key, 0, 1)

    def test_an_unknown_object_is_not_found(self, regions: RegionRegistry) -> None:
        key = f"headrace-test-{uuid.uuid4().hex}"
        with exactly(NotFound, f"there is no shared memory object '{key}'"):
            regions.register("r", key, 0, 1)
        with pytest.raises(NotFound):
            regions.register("r", "é" * 127, 0, 1)

    def test_only_regular_files_are_shared_memory_objects(
        self, regions: RegionRegistry, make_object: MakeObject
    ) -> None:
        target = make_object(CONTENT)
        link, directory, pipe = (DIRECTORY / f"{target.name}-{kind}" for kind in ("link", "directory", "pipe"))
        link.symlink_to(target)
        directory.mkdir()
        os.mkfifo(pipe)
        try:
            for path in (link, directory, pipe):
                with exactly(InvalidArgument, f"'{path.name}' is not a shared memory object"):
                    regions.register("r", path.name, 0, 1)
        finally:
            link.unlink()
            directory.rmdir()
            pipe.unlink()
        assert len(regions) == 0

    @pytest.mark.parametrize(
        ("offset", "byte_size"), [(0, 65), (64, 1), (60, 5), (0, HUGE), (HUGE, 1), (HUGE, HUGE), (2**63, 2**63)]
    )
    def test_a_region_lies_inside_its_object(
        self, regions: RegionRegistry, make_object: MakeObject, offset: int, byte_size: int
    ) -> None:
        key = make_object(CONTENT).name
        message = f"shared memory object '{key}' has 64 bytes; region 'r' needs {byte_size} bytes at offset {offset}"
        with exactly(InvalidArgument, message):
            regions.register("r", key, offset, byte_size)
        assert len(regions) == 0

    @pytest.mark.parametrize(("offset", "byte_size"), [(0, 0), (8, -8), (-8, 8)])
    def test_a_region_is_not_empty(
        self, regions: RegionRegistry, make_object: MakeObject, offset: int, byte_size: int
    ) -> None:
        bounds = "the size must be at least 1, and the offset must not be negative"
        with exactly(InvalidArgument, f"shared memory region 'r' has {byte_size} bytes at offset {offset}; {bounds}"):
            regions.register("r", make_object(CONTENT).name, offset, byte_size)

    def test_a_name_can_be_registered_only_once(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        regions.register("r", make_object(CONTENT).name, 0, 64)
        with exactly(FailedPrecondition, "shared memory region 'r' is already registered; unregister it first"):
            regions.register("r", make_object(b"other").name, 0, 5)
        assert regions.read("r", 0, 64) == CONTENT
        regions.unregister("r")
        regions.register("r", make_object(b"other").name, 0, 5)
        assert regions.read("r", 0, 5) == b"other"

    @pytest.mark.parametrize("name", ["", "n" * (MAX_NAME_CHARACTERS + 1)])
    def test_a_name_is_neither_empty_nor_too_long(
        self, regions: RegionRegistry, make_object: MakeObject, name: str
    ) -> None:
        message = (
            f"the name of a shared memory region has {len(name)} characters; it must have 1 to {MAX_NAME_CHARACTERS}"
        )
        with exactly(InvalidArgument, message):
            regions.register(name, make_object(CONTENT).name, 0, 64)

    @pytest.mark.parametrize(("descriptor_limit", "region_limit"), [(400, 200), (4096, MAX_REGIONS)])
    def test_the_number_of_regions_is_limited(
        self, make_object: MakeObject, descriptor_limit: int, region_limit: int
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= hard < descriptor_limit:
            pytest.skip(f"the system allows {hard} descriptors")
        key = make_object(CONTENT).name
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor_limit, hard))
        regions = RegionRegistry()
        try:
            for number in range(region_limit):
                regions.register(str(number), key, 0, 64)
            refusal = f"{region_limit} shared memory regions are registered or in use, which is the limit"
            with exactly(ResourceExhausted, refusal):
                regions.register("more", key, 0, 64)
            acquired = regions.acquire("7", 0, 64)
            regions.unregister("7")
            assert len(regions) == region_limit - 1
            with exactly(ResourceExhausted, refusal):
                regions.register("more", key, 0, 64)
            regions.release(acquired)
            regions.register("more", key, 0, 64)
            assert len(regions) == region_limit
        finally:
            regions.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_unregistering_closes_descriptors(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        before = open_descriptors()
        for name in "abc":
            regions.register(name, make_object(CONTENT).name, 0, 64)
        assert open_descriptors() == before + 3
        regions.unregister("b")
        regions.unregister("not there")
        assert open_descriptors() == before + 2
        assert [region.name for region in regions.status("")] == ["a", "c"]
        assert repr(regions) == "<RegionRegistry 2 regions, 128 bytes, 2 descriptors>"
        regions.unregister("")
        assert (open_descriptors(), list(regions.status(""))) == (before, [])


class TestAcquiring:
    def test_an_acquired_region_outlives_its_name(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        first, second = make_object(CONTENT), make_object(CONTENT)
        regions.register("r", first.name, 16, 32)
        acquired = regions.acquire("r", 0, 8)
        regions.unregister("r")
        with exactly(NotFound, "there is no shared memory region 'r'"):
            regions.acquire("r", 0, 8)
        regions.register("r", second.name, 0, 64)
        acquired.write(1, b"first")
        assert first.read_bytes() == CONTENT[:17] + b"first" + CONTENT[22:]
        assert second.read_bytes() == CONTENT
        assert [(region.key, region.byte_size) for region in regions.status("")] == [(second.name, 64)]
        assert repr(regions) == "<RegionRegistry 1 regions, 64 bytes, 2 descriptors>"
        regions.release(acquired)
        assert repr(regions) == "<RegionRegistry 1 regions, 64 bytes, 1 descriptors>"

    def test_the_last_release_closes_the_descriptor(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        before = open_descriptors()
        regions.register("r", make_object(CONTENT).name, 0, 64)
        acquired = [regions.acquire("r", 0, 64) for _ in range(3)]
        assert open_descriptors() == before + 1
        regions.release(acquired.pop())
        regions.unregister("")
        regions.release(acquired.pop())
        assert open_descriptors() == before + 1
        regions.release(acquired.pop())
        assert open_descriptors() == before

    def test_a_registered_region_stays_open_when_it_is_released(
        self, regions: RegionRegistry, make_object: MakeObject
    ) -> None:
        regions.register("r", make_object(CONTENT).name, 0, 64)
        regions.release(regions.acquire("r", 0, 64))
        assert regions.read("r", 0, 64) == CONTENT

    def test_a_failed_acquire_holds_nothing(self, regions: RegionRegistry, make_object: MakeObject) -> None:
        before = open_descriptors()
        regions.register("r", make_object(CONTENT).name, 0, 64)
        with pytest.raises(InvalidArgument):
            regions.acquire("r", 60, 5)
        regions.unregister("r")
        assert open_descriptors() == before

    def test_the_object_may_shrink_while_a_region_is_acquired(
        self, regions: RegionRegistry, make_object: MakeObject
    ) -> None:
        path = make_object(CONTENT)
        regions.register("r", path.name, 0, 64)
        acquired = regions.acquire("r", 0, 64)
        os.truncate(path, 8)
        with exactly(FailedPrecondition, TestClientsThatChangeTheObject.SHRUNK):
            acquired.write(4, b"12345")
        assert path.read_bytes() == CONTENT[:8]
        regions.release(acquired)


class TestRpcs:
    async def test_regions_are_registered_listed_and_unregistered(
        self, owned: OwnedRegions, make_object: MakeObject
    ) -> None:
        rpcs = SharedMemoryRpcs(owned)
        key = f"/{make_object(CONTENT).name}"
        for name in "ab":
            request = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=8, byte_size=16)
            assert await rpcs.register(request, None) == pb.SystemSharedMemoryRegisterResponse()
        a, b = (
            pb.SystemSharedMemoryStatusResponse.RegionStatus(name=name, key=key, offset=8, byte_size=16)
            for name in "ab"
        )
        request_all = pb.SystemSharedMemoryStatusRequest()
        response = await rpcs.status(request_all, None)
        assert response == pb.SystemSharedMemoryStatusResponse(regions={"a": a, "b": b})
        response = await rpcs.status(pb.SystemSharedMemoryStatusRequest(name="b"), None)
        assert response == pb.SystemSharedMemoryStatusResponse(regions={"b": b})
        await rpcs.unregister(pb.SystemSharedMemoryUnregisterRequest(name="a"), None)
        assert set((await rpcs.status(request_all, None)).regions) == {"b"}
        await rpcs.unregister(pb.SystemSharedMemoryUnregisterRequest(), None)
        assert not (await rpcs.status(request_all, None)).regions

    async def test_a_server_without_shared_memory_has_no_regions(self) -> None:
        rpcs = SharedMemoryRpcs(None)
        assert not (await rpcs.status(pb.SystemSharedMemoryStatusRequest(), None)).regions

    async def test_an_identity_has_names_of_its_own(self, owned: OwnedRegions, make_object: MakeObject) -> None:
        rpcs, all_ = SharedMemoryRpcs(owned), pb.SystemSharedMemoryStatusRequest()
        alice, bob = Client("alice", NO_LIMITS), Client("bob", NO_LIMITS)
        keys = {client: f"/{make_object(CONTENT).name}" for client in (alice, bob, "a connection")}
        for client, key in keys.items():
            request = pb.SystemSharedMemoryRegisterRequest(name="r", key=key, byte_size=16)
            await rpcs.register(request, client)
        for client, key in keys.items():
            assert [(each.name, each.key) for each in (await rpcs.status(all_, client)).regions.values()] == [
                ("r", key)
            ]
        assert set((await rpcs.status(all_, "another connection")).regions) == {"r"}
        await rpcs.unregister(pb.SystemSharedMemoryUnregisterRequest(), alice)
        assert [len((await rpcs.status(all_, client)).regions) for client in keys] == [0, 1, 1]
