"""Cached descriptions of requests and responses are bounded in bytes, whatever clients describe."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.quotas import Quota
from headrace.server.services.oip.description_cache import MAX_BYTES, DescriptionCache
from headrace.server.services.oip.descriptions import Description, parse_description
from headrace.server.services.oip.messages import RequestParts
from headrace.server.services.oip.options import NO_OPTIONS
from headrace.server.services.oip.requests import MAX_CACHED_DESCRIPTION_BYTES, RequestReader


def description(number: int, inputs: int, *, empty: bool = False) -> bytes:
    request = pb.ModelInferRequest(model_name=f"model {number}")
    for index in range(inputs):
        name, shape = ("", []) if empty else (f"input {index}", [1, 16 + number])
        request.inputs.add(name=name, datatype="FP32", shape=shape)
    return request.SerializeToString()


def measured(data: list[bytes]) -> tuple[int, list[Description]]:
    gc.collect()
    tracemalloc.start()
    parsed = [parse_description(each, has_raw_contents=False) for each in data]
    gc.collect()
    nbytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return nbytes, parsed


@pytest.mark.parametrize(("inputs", "empty"), [(1, False), (10, False), (500, False), (1800, True)])
def test_the_estimate_is_not_less_than_what_a_description_occupies(inputs: int, *, empty: bool) -> None:
    nbytes, parsed = measured([description(number, inputs, empty=empty) for number in range(20)])
    assert nbytes / 20 <= parsed[0].nbytes <= 8 * nbytes / 20


def test_cached_requests_are_bounded() -> None:
    """Without the bound these 1,024 descriptions took 142 MiB."""
    core = Core(Limits())
    reader = RequestReader(None, core)
    for number in range(1024):
        data = description(number, 1800, empty=True)
        assert len(data) < MAX_CACHED_DESCRIPTION_BYTES
        request = reader.read(RequestParts(data), "a connection")
        assert request.options is NO_OPTIONS
        assert core.accounts.caches.used == reader._descriptions.nbytes <= MAX_BYTES
    assert len(reader._descriptions) > 1


def test_descriptions_are_not_remembered_while_memory_is_short() -> None:
    memory = Quota(1000)
    account = Quota(500, memory)
    cache, other = DescriptionCache[str, str](account), DescriptionCache[str, str](account)
    for key in ("a", "b", "c", "d"):
        cache.put(key, key, 150)
    assert [key for key in "abcd" if cache.get(key)] == ["b", "c", "d"]
    other.put("e", "e", 400)
    assert other.get("e") is None
    memory.charge(2000)
    cache.put("f", "f", 450)
    assert [key for key in "bcdf" if cache.get(key)] == []
    assert account.used == cache.nbytes == 0
    memory.refund(2000)
    other.put("e", "e", 400)
    assert other.get("e") == "e"
    assert account.used == 400
