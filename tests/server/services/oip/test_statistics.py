"""The statistics of models, as Triton's clients read them."""

from __future__ import annotations

import time

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine
from headrace.server.services.oip.statistics import StatisticsRpcs


@pytest.fixture
async def dispatcher() -> Dispatcher:
    core = Core(Limits())
    for name, version in [("net", "10"), ("net", "9"), ("other", "1")]:
        core.models.add(ModelSpec(name, version, (), (), has_variables=False, slots=1))
    return Dispatcher(core, FakeEngine())


async def statistics(dispatcher: Dispatcher, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
    request = pb.ModelStatisticsRequest(name=name, version=version)
    return list((await StatisticsRpcs(dispatcher).model_statistics(request)).model_stats)


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("", "", [("net", "9"), ("net", "10"), ("other", "1")]),
        ("net", "", [("net", "9"), ("net", "10")]),
        ("net", "9", [("net", "9")]),
    ],
)
async def test_statistics_of_all_models_one_model_or_one_version(
    dispatcher: Dispatcher, name: str, version: str, expected: list[tuple[str, str]]
) -> None:
    assert [(each.name, each.version) for each in await statistics(dispatcher, name, version)] == expected


async def test_counts_and_times_are_summed(dispatcher: Dispatcher) -> None:
    seconds_ago = 60.0
    recorder = dispatcher.core.models.find("other").statistics
    before = time.time() - seconds_ago
    last = dispatcher.now() - seconds_ago
    recorder.ran(1, 1, 0.25, 0.5, (0.125, 0.25, 0.0625), last)
    recorder.ran(4, 3, 0.75, 1.0, (0.25, 0.5, 0.125), last)
    recorder.failed(1.5)
    recorder.failed(0.000000001)
    (found,) = await statistics(dispatcher, "other")
    after = time.time() - seconds_ago
    assert before * 1e3 - 1 <= found.last_inference <= after * 1e3 + 1
    found.last_inference = 0

    def duration(count: int, ns: int) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=count, ns=ns)

    assert found == pb.ModelStatistics(
        name="other",
        version="1",
        inference_count=4,
        execution_count=2,
        inference_stats=pb.InferStatistics(
            success=duration(4, 4_500_000_000),
            fail=duration(2, 1_500_000_001),
            queue=duration(4, 1_000_000_000),
            compute_input=duration(4, 875_000_000),
            compute_infer=duration(4, 1_750_000_000),
            compute_output=duration(4, 437_500_000),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=1,
                compute_input=duration(1, 125_000_000),
                compute_infer=duration(1, 250_000_000),
                compute_output=duration(1, 62_500_000),
            ),
            pb.InferBatchStatistics(
                batch_size=4,
                compute_input=duration(1, 250_000_000),
                compute_infer=duration(1, 500_000_000),
                compute_output=duration(1, 125_000_000),
            ),
        ],
    )


async def test_a_model_without_inferences_has_zeros(dispatcher: Dispatcher) -> None:
    (found,) = await statistics(dispatcher, "net", "9")
    nothing = pb.StatisticDuration()
    assert found == pb.ModelStatistics(
        name="net",
        version="9",
        inference_stats=pb.InferStatistics(
            success=nothing,
            fail=nothing,
            queue=nothing,
            compute_input=nothing,
            compute_infer=nothing,
            compute_output=nothing,
        ),
    )
