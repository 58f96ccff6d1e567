"""Names that clients make up, ever new ones, are not kept: neither in the server, nor in its log and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.request_lines import request_lines
from tests.e2e.scraping import Scraped, scrape, url_of
from tests.e2e.serving import Serve

CALLS = 50
NAME_BYTES = 400_000
"""20 MB for the calls of one RPC in a round: whoever keeps them shows."""
ROUNDS = 4
FLOOD = 1500
ONE = np.ones(1, np.float32).tobytes()


def names(of: str, count: int = CALLS, length: int = NAME_BYTES) -> Iterator[str]:
    return (f"{of}-{number}".ljust(length, "x") for number in range(count))


def infer(model: str = "scale", version: str = "", request_id: str = "", name: str = "x") -> oip.ModelInferRequest:
    message = oip.ModelInferRequest(
        model_name=model, model_version=version, id=request_id, raw_input_contents=[ONE if name != "x" else b"odd"]
    )
    message.inputs.add(name=name, datatype="FP32", shape=[1])
    return message


def ask_for_everything(channel: grpc.Channel, of: str) -> None:
    """Each RPC with names that there are not, by whatever it takes a name for."""
    standard, native, health = GRPCInferenceServiceStub(channel), InferenceStub(channel), HealthStub(channel)
    missing, wrong = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT

    def unary(rpc: Any, request: Callable[[str], Any], code: grpc.StatusCode = missing) -> None:
        for name in names(of):
            with pytest.raises(grpc.RpcError) as failed:
                rpc(request(name), timeout=60)
            assert failed.value.code() is code, failed.value.details()

    unary(standard.ModelInfer, lambda name: infer(model=name))
    unary(standard.ModelInfer, lambda name: infer(version=name))
    unary(standard.ModelInfer, lambda name: infer(request_id=name), wrong)
    unary(standard.ModelInfer, lambda name: infer(name=name), wrong)
    unary(standard.ModelMetadata, lambda name: oip.ModelMetadataRequest(name=name))
    unary(standard.ModelStatistics, lambda name: oip.ModelStatisticsRequest(name=name))
    unary(standard.RepositoryModelLoad, lambda name: oip.RepositoryModelLoadRequest(model_name=name))
    unary(standard.RepositoryModelUnload, lambda name: oip.RepositoryModelUnloadRequest(model_name=name))
    unary(standard.SystemSharedMemoryStatus, lambda name: oip.SystemSharedMemoryStatusRequest(name=name))
    unary(
        standard.SystemSharedMemoryRegister,
        lambda name: oip.SystemSharedMemoryRegisterRequest(name=name, key="k", byte_size=1),
        wrong,
    )
    unary(native.Infer, lambda name: pb.InferRequest(call=pb.Call(model=name)))
    unary(native.DescribeModel, lambda name: pb.DescribeModelRequest(name=name))
    unary(health.Check, lambda name: health_pb2.HealthCheckRequest(service=name))
    for name in names(of):
        (answer,) = standard.ModelStreamInfer(iter([infer(model=name)]), timeout=60)
        assert answer.error_message.startswith("there is no model")


def call_unknown_methods(channel: grpc.Channel, count: int) -> None:
    """As fast as they are answered: far more in a second than the log has lines for."""
    paths = [f"/made.up.Service{name}/Method" for name in names("", count, 300)]
    rpcs: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = [channel.unary_unary(path) for path in paths]
    calls = [rpc.future(b"", timeout=120) for rpc in rpcs]
    assert {(call.code(), call.details()) for call in calls} == {(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")}


def series(scraped: Scraped) -> set[tuple[str, ...]]:
    return {
        (sample.name, *sample.labels.values())
        for family in scraped.families.values()
        for sample in family.samples
        if sample.name.startswith("headrace")
    }


def test_nothing_is_kept_of_names_that_there_are_not(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--model-control", "--shared-memory", "--metrics-port=0")
    url = url_of(served)
    with grpc.insecure_channel(served.address) as channel:
        seen: list[set[tuple[str, ...]]] = []
        resident: list[int] = []
        for number in range(ROUNDS):
            ask_for_everything(channel, f"round-{number}")
            seen.append(series(scrape(url)))
            resident.append(served.resident_bytes())
    # Allocators keep some memory for later, now more and now less, but not more each time.
    assert min(after - before for before, after in pairwise(resident)) < CALLS * NAME_BYTES / 2, resident
    assert seen[0] == seen[-1]
    assert max(len(label) for labels in seen[0] for label in labels) < 200
    assert served.stop() == 0
    # About a KiB for each line, of which there are a hundred a second at most.
    assert max(map(len, served.log.splitlines())) < 4000


@pytest.mark.parametrize("transport", ["aio", "completion-queue"])
def test_methods_that_do_not_exist_have_some_lines_and_a_count(serve: Serve, tmp_path: Path, transport: str) -> None:
    served = serve(str(models.scale(tmp_path)), "--log-format=json", f"--transport={transport}")
    with grpc.insecure_channel(served.address) as channel:
        call_unknown_methods(channel, FLOOD)
    assert served.stop() == 0
    lines = request_lines(served, 1)
    shown = [line for line in lines if "rpc" in line]
    sums = [line for line in lines if "count" in line]
    assert len(shown) + sum(line["count"] for line in sums) == FLOOD
    assert sums
    assert len(shown) <= 10 * (len(sums) + 1)
    assert {line["code"] for line in shown} == {"UNIMPLEMENTED"}
    assert all(line["rpc"].startswith("made.up.Service") for line in shown)
    for line in sums:
        of = f"{line['count']:,} UNIMPLEMENTED of methods that this server does not have"
        assert line["message"].endswith(f"failed within a second: {of}")
